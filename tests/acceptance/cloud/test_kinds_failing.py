"""Providers of every kind that fail: another answers, or the client is told; keys stay at home."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
import pytest_asyncio

from tests.acceptance.cloud.cloud_setup import CloudSetup
from tests.acceptance.cloud.shared import ROUTES, AllProviders, all_providers, cost, user
from tests.doubles.providers import Provider, broken, refuse

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("afresh")]
TALKING = ("chat", "gemini", "llama:edge", "claude", "some")
SCHEMA: Any = {"type": "json_schema", "json_schema": {"name": "one", "schema": {"enum": ["a"]}}}
UNFIT = {
    "type": "object",
    "properties": {"answer": {"type": "string", "pattern": "^zzz$"}},
    "required": ["answer"],
    "additionalProperties": False,
}
WRONG = "sk-wrong-fedcba9876543210"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cloud(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AllProviders]:
    async with all_providers(tmp_path_factory.mktemp("cloud"), _more) as made:
        yield made


def _more(setup: CloudSetup, sims: dict[str, Provider]) -> None:
    """A route over three kinds, one with a key that is wrong, one with what only some can do."""
    wrong = setup.fabric.home / "wrong.key"
    wrong.write_text(WRONG)
    for kind in ("openai", "google", "anthropic", "compatible"):
        name = f"wrong-{kind}"
        setup.provider(name, sims[kind], kind=kind, key_file=str(wrong))
        model = ROUTES[next(r for r in TALKING if ROUTES[r].startswith(kind))].partition("/")[2]
        setup.price(name, model, input=1, output=2)
        setup.route(f"lost-{kind}", [f"{name}/{model}"])
    setup.provider("first", sims["compatible"])
    setup.provider("second", sims["google"], kind="google")
    setup.price("first", "some-model", input=3, output=4)
    chain = ["first/some-model", "second/gemini-2.5-flash", "anthropic/claude-haiku-4-5"]
    setup.route("chain", chain)
    setup.route("either", ["anthropic/claude-haiku-4-5", "openai/gpt-4o-mini"])


@pytest.mark.parametrize("kind", ["openai", "google", "anthropic", "compatible"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_key_that_is_wrong(cloud: AllProviders, kind: str, stream: bool) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        await cloud.client.chat.completions.create(
            model=f"lost-{kind}", messages=user("x"), stream=stream
        )
    answer = caught.value
    assert (answer.status_code, answer.code) == (502, "provider_failed")
    assert f"wrong-{kind}" in answer.message
    assert WRONG not in answer.response.text
    assert WRONG[:8] not in answer.response.text
    logs = [str(process.lines) + str(process.noise) for process in cloud.setup.fabric.processes]
    assert WRONG[:12] not in "".join(logs)
    assert await cloud.paid() == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_failover_over_three_kinds(cloud: AllProviders, stream: bool) -> None:
    first, second = cloud.sims["compatible"], cloud.sims["google"]
    second.faults.add(refuse(429, retry_after=0))
    await first.down()
    try:
        raw = await cloud.client.chat.completions.with_raw_response.create(
            model="chain", messages=user("#f one"), max_tokens=2, stream=stream
        )
        made: Any = raw.parse()
        answers = [chunk async for chunk in made] if stream else [made]
        assert {each.model for each in answers} == {"chain"}
        assert raw.headers["x-headrace-served-by"] == "provider:anthropic"
        assert [one.status for one in cloud.sent("google")] == [429]
        [sent] = cloud.sent("anthropic")
        assert await cloud.paid() == cost("claude", sent)
    finally:
        await first.up()


async def test_the_one_that_can_is_chosen(cloud: AllProviders) -> None:
    """Anthropic, the first of the route, has no JSON schema."""
    raw = await cloud.client.chat.completions.with_raw_response.create(
        model="either", messages=user("any"), response_format=SCHEMA
    )
    assert raw.headers["x-headrace-served-by"] == "provider:openai"
    assert not cloud.sent("anthropic")
    assert len(cloud.sent("openai")) == 1
    raw = await cloud.client.chat.completions.with_raw_response.create(
        model="either", messages=user("any"), max_tokens=2
    )
    assert raw.headers["x-headrace-served-by"] == "provider:anthropic"


async def test_an_answer_that_does_not_fit_is_bought_twice_and_says_so(cloud: AllProviders) -> None:
    unfit: Any = {"type": "json_schema", "json_schema": {"name": "n", "schema": UNFIT}}
    with pytest.raises(openai.APIStatusError) as caught:
        await cloud.client.chat.completions.create(
            model="chat", messages=user("#t one"), response_format=unfit
        )
    assert caught.value.code == "invalid_structured_output"
    headers, sent = caught.value.response.headers, cloud.sent("openai")
    assert headers["x-headrace-served-by"] == "provider:openai"
    assert len(sent) == 2
    assert await cloud.paid(headers) == sum(cost("chat", each) for each in sent)


@pytest.mark.parametrize("model", TALKING)
async def test_an_error_inside_a_stream(cloud: AllProviders, model: str) -> None:
    """After the first tokens it is the client's to know, and these are paid; before them, another
    round answers."""
    kind = ROUTES[model].partition("/")[0]
    sim = cloud.sims[kind]
    sim.faults.add(broken(after=3))
    sim.pace.token_s = 0.03  # or the error overtakes the head, and the client gets a plain 502
    stream = await cloud.client.chat.completions.create(
        model=model, messages=user("#e a b c d e f g"), max_tokens=8, stream=True
    )
    pieces: list[str] = []
    with pytest.raises(openai.APIError) as caught:
        await _read(stream, pieces)
    assert ("".join(pieces), caught.value.code) == ("#e a b", "stream_interrupted")
    [sent] = cloud.sent(kind)
    charged = await cloud.paid()
    usage = (await cloud.setup.charges())[-1].usage
    assert usage is not None
    assert (usage.cost, sent.used.output) == (charged, 3)
    assert 0 < usage.completion <= 3

    sim.pace.token_s = 0
    sim.faults.add(broken(after=0))
    again = await cloud.client.chat.completions.create(
        model=model, messages=user("#e a"), max_tokens=2, stream=True
    )
    await _read(again, pieces := [])
    assert "".join(pieces) == "#e a"
    assert [one.state for one in cloud.sent(kind)] == ["broken", "finished"]


async def _read(stream: Any, pieces: list[str]) -> None:
    async for chunk in stream:
        pieces += [choice.delta.content or "" for choice in chunk.choices]
