"""What providers do wrong: who is told, what is charged, and what is never said."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from fallback.cost.spent import NOTHING, Spent
from fallback.providers.base import Provider, ProviderFault, Task
from tests.doubles.drive import RecordingSink
from tests.doubles.providers import Anthropic, OpenAI, broken, cut, hang, refuse, unfinished
from tests.doubles.secured import secured
from tests.unit.fakes import PATIENCE
from tests.unit.fallback.providers.tasks import KEY, chat, opened, task

STREAMED = pytest.mark.parametrize("stream", [False, True])
LONG = "#a b c d e f g h"


async def failing(cloud: Provider, asked: Task, sink: RecordingSink | None = None) -> ProviderFault:
    with pytest.raises(ProviderFault) as caught:
        await cloud.call(asked, sink or RecordingSink())
    assert KEY not in repr(caught.value)
    return caught.value


async def test_a_certificate_that_nobody_trusts_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To clients without the address, which is the operator's."""
    async with (
        secured(tmp_path, "127.0.0.1") as url,
        opened(monkeypatch, "openai", f"{url}/v1") as provider,
    ):
        found = await failing(provider, chat("gpt-4o"))
    where, why = url.removeprefix("https://"), "is of a CA that is not trusted here ("
    assert found.message.startswith(f"cloud cannot be reached: its certificate {why}")
    assert found.detail.startswith(f"the certificate of {where} {why}")
    assert "SSL_CERT_FILE" in found.detail
    assert found.reason == "away"


@STREAMED
@pytest.mark.parametrize(
    ("fault", "reason", "wait"),
    [
        (refuse(429, retry_after=3), "busy", 3.0),
        (refuse(429, code="insufficient_quota"), "key", None),
        (refuse(503), "busy", None),
        (refuse(529), "busy", None),
        (refuse(500), "failed", None),
        (refuse(502, body=b"<html>bad gateway</html>"), "failed", None),
        (refuse(401), "key", None),
        (refuse(402), "key", None),
        (refuse(403), "key", None),
        (refuse(404, code="model_not_found"), "absent", None),
        (refuse(302, headers={"location": "http://127.0.0.1:1/"}), "failed", None),
        (cut(), "failed", None),
        (cut(reset=True), "failed", None),
        (hang(), "away", None),
    ],
    ids=lambda value: getattr(value, "name", None),
)
async def test_before_the_answer_another_may_try(
    cloud: Provider, sim: OpenAI, fault: Any, reason: str, wait: float | None, stream: bool
) -> None:
    sim.faults.add(fault)
    sink = RecordingSink()
    found = await failing(cloud, chat("gpt-4o", stream=stream), sink)
    assert (found.reason, found.retry_after) == (reason, wait)
    assert not sink.body
    assert len(sim.record.requests) == 1


@pytest.mark.parametrize("fault", [cut(2), unfinished(2), broken(2), hang(2)])
async def test_half_a_document_is_no_answer(cloud: Provider, sim: OpenAI, fault: Any) -> None:
    sim.faults.add(fault)
    sink = RecordingSink()
    await failing(cloud, chat("gpt-4o", LONG), sink)
    assert not sink.status


@pytest.mark.parametrize("fault", [cut(3), cut(3, inside=True), unfinished(3), broken(3), hang(3)])
async def test_in_mid_stream_what_was_used_is_told(
    cloud: Provider, sim: OpenAI, fault: Any
) -> None:
    sim.faults.add(fault)
    sink = RecordingSink()
    asked = chat("gpt-4o", LONG, stream=True)
    found = await failing(cloud, asked, sink)
    assert found.reason == ("away" if fault.act == "hang" else "failed")
    assert asked.spent.completion == sim.record.requests[0].used.output == 3
    assert not asked.spent.told
    assert b'"error"' not in sink.body
    assert sink.body.endswith(b"\n\n")
    assert len(sink.events) == 1 + 3


async def test_an_error_event_may_say_that_it_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    async with (
        Anthropic(key=KEY) as sim,
        opened(monkeypatch, "anthropic", sim.url + "/v1") as cloud,
    ):
        sim.faults.add(broken(1, status=529))
        asked = task(
            "/v1/messages",
            "claude-haiku-4-5",
            messages=[{"role": "user", "content": LONG}],
            max_tokens=9,
            stream=True,
        )
        sink = RecordingSink()
        found = await failing(cloud, asked, sink)
    assert found.reason == "busy"
    assert sink.body


@STREAMED
@pytest.mark.parametrize("status", [400, 413, 415, 422])
async def test_the_clients_own_fault_is_an_answer(
    cloud: Provider, sim: OpenAI, status: int, stream: bool
) -> None:
    sim.faults.add(refuse(status, message=f"Not so, {KEY}.", param="top_p", code="bad"))
    sink = RecordingSink()
    asked = chat("gpt-4o", stream=stream)
    assert await cloud.call(asked, sink) == NOTHING
    assert asked.spent == NOTHING
    assert (sink.status, sink.content_type) == (status, "application/json")
    error = sink.document["error"]
    assert error["source"] == "provider:cloud"
    assert (error["param"], error["code"]) == ("top_p", "bad")
    assert error["message"] == "Not so, [key]."


async def test_nobody_is_there(monkeypatch: pytest.MonkeyPatch, sim: OpenAI) -> None:
    await sim.down()
    async with opened(monkeypatch, "openai", sim.base_url) as cloud:
        found = await failing(cloud, chat("gpt-4o"))
        assert found.reason == "away"
        await sim.up()
        assert (await cloud.call(chat("gpt-4o"), RecordingSink())).told


async def test_a_wrong_key_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch, sim: OpenAI, logs: list[Any], caplog: Any
) -> None:
    wrong = "sk-proj-verysecretindeed-0987"
    async with opened(monkeypatch, "openai", sim.base_url, key=wrong) as cloud:
        found = await failing(cloud, chat("gpt-4o"))
        assert wrong not in repr(vars(cloud))
    assert found.reason == "key"
    for said in (found.message, repr(found), str(logs), caplog.text):
        assert wrong[:8] not in said
        assert wrong[-4:] not in said


async def abort(cloud: Provider, asked: Task, sink: RecordingSink, when: Any) -> Spent:
    """Cancel the call once `when` is done; what was used."""
    running = asyncio.create_task(cloud.call(asked, sink))
    await when
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert running.cancelled()
    return asked.spent


@STREAMED
async def test_cancelled_before_the_answer(cloud: Provider, sim: OpenAI, stream: bool) -> None:
    sim.pace.may_answer.clear()
    asked = chat("gpt-4o", LONG, stream=stream)
    spent = await abort(cloud, asked, RecordingSink(), sim.seen(1))
    [seen] = await sim.ended("aborted")
    assert seen.status == 0
    assert spent.prompt > 0
    assert (spent.completion, spent.told) == (0, False)


async def test_cancelled_in_mid_stream(cloud: Provider, sim: OpenAI) -> None:
    """Nothing but the client's leaving ends it: no more is generated by then."""
    sim.pace.token_s, sim.pace.tokens = 0.01, 500
    asked, sink = chat("gpt-4o", LONG, stream=True), RecordingSink()

    async def some() -> None:
        await sim.generated(5)
        sim.pace.may_generate.clear()  # one more may be on its way
        [running] = sim.record.requests
        async with asyncio.timeout(PATIENCE):
            while sink.text != running.text:
                await asyncio.sleep(0)

    spent = await abort(cloud, asked, sink, some())
    [seen] = await sim.ended("aborted")
    assert abs(spent.completion - seen.used.output) <= 1
    assert not spent.told


async def test_before_it_is_sent_nothing_is_used(cloud: Provider) -> None:
    asked = chat("gpt-4o")
    running = asyncio.create_task(cloud.call(asked, RecordingSink()))
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert asked.spent == NOTHING
