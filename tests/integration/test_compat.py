"""The compatibility matrix over a real broker: by HTTP, and by the command line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from deploy.compat.probes import ROWS
from deploy.nats import broker as brokers
from tests import forks
from tests.fabric import KEY, PATIENCE, Fabric, fabric

ECHO = "echo://?model=echo&slots=2&token_ms=1"

NO = {
    "seed": "four seeds gave one and the same text",
    "temperature": "gave three times the text of temperature: 0",
    "json": "the schema does not hold",
    "tools": "do not fit: Additional properties are not allowed ('text' was unexpected)",
    "logprobs": "1 alternatives for top_logprobs: 2",
    "images": "400 unsupported_endpoint: the model has only /v1/chat/completions, ",
    "vision": "cannot see pictures",
}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fabric]:
    home = tmp_path_factory.mktemp("fabric")
    with brokers.start(home / "broker", 0, 0) as broker:
        async with fabric(broker, home) as made:
            await made.ingress(routes={"gpt-4o-mini": "echo"})
            await made.worker(ECHO)
            await made.worker("echo://?model=ohce&token_ms=1")
            await made.served("echo", "ohce")
            yield made


async def table(made: Fabric, path: str = "/v1/compat") -> dict[str, Any]:
    async with made.session.get(made.url + path, headers=made.headers) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.headers["x-request-id"]
        found: dict[str, Any] = await answer.json()
        return found


def answers(found: dict[str, Any], model: str) -> dict[str, str]:
    return {row["id"]: row["cells"][model]["answer"] for row in found["rows"]}


async def test_every_model_of_the_fabric(served: Fabric) -> None:
    found = await table(served)
    assert found["object"] == "headrace.compat"
    assert [model["id"] for model in found["models"]] == ["echo", "ohce"]
    assert {model["engines"][0] for model in found["models"]} == {"echo"}
    assert [row["title"] for row in found["rows"]] == [row.title for row in ROWS]
    seen = answers(found, "echo")
    right = ("chat", "completions", "embeddings", "streaming", "n", "stop", "usage", "rerank")
    assert {name: seen[name] for name in right} == dict.fromkeys(right, "yes")
    fabric_rows = ("models", "keys", "several_models", "errors", "request_id")
    assert {name: seen[name] for name in fabric_rows} == dict.fromkeys(fabric_rows, "yes")
    # What an echo cannot do is no secret: it has no chance in it, no schema, and no pictures.
    reasons = {row["id"]: row["cells"]["echo"]["reason"] for row in found["rows"]}
    for name, why in NO.items():
        assert (seen[name], why in reasons[name]) == ("no", True), reasons[name]
    for row in found["rows"]:
        assert all(cell["reason"] for cell in row["cells"].values()), row["id"]
    await served.idle()


async def test_one_model_by_an_alias_without_v1(served: Fabric) -> None:
    found = await table(served, "/compat?model=gpt-4o-mini")
    assert [model["id"] for model in found["models"]] == ["gpt-4o-mini"]
    assert answers(found, "gpt-4o-mini")["chat"] == "yes"


async def test_cells_are_told_as_they_come_and_one_run_at_a_time(served: Fabric) -> None:
    headers = {**served.headers, "accept": "text/event-stream"}
    url = served.url + "/v1/compat?model=echo"
    events = []
    async with served.session.get(url, headers=headers) as answer:
        async for line in answer.content:
            if line.startswith(b"data: "):
                events.append(json.loads(line[6:]))
            if len(events) == 1:
                async with served.session.get(url, headers=served.headers) as second:
                    assert (second.status, int(second.headers["retry-after"]) > 0) == (429, True)
                    assert (await second.json())["error"]["code"] == "queue_full"
    *cells, last = events
    assert len(cells) == len(ROWS)
    assert (cells[-1]["done"], cells[-1]["of"]) == (len(ROWS), len(ROWS))
    told = {cell["row"]: cell["reason"] for cell in cells}
    assert told == {row["id"]: row["cells"]["echo"]["reason"] for row in last["rows"]}


async def test_a_run_ends_when_its_client_leaves(served: Fabric) -> None:
    headers = {**served.headers, "accept": "text/event-stream"}
    url = served.url + "/v1/compat"
    async with served.session.get(url, headers=headers) as answer:
        await answer.content.readline()
        answer.close()
    async with asyncio.timeout(PATIENCE):
        while True:  # the ingress hears of it a moment later
            async with served.session.get(url + "?model=echo", headers=headers) as again:
                if again.status == 200:
                    break
    await served.idle()


async def command(made: Fabric, *options: str) -> tuple[int, str, str]:
    """(exit code, stdout, stderr)"""
    return await forks.run("compat", "--url", made.url, *options)


async def test_the_command(served: Fabric) -> None:
    mine = ("--key", KEY, "--model", "echo")
    code, out, err = await command(served, *mine, "--markdown")
    assert (code, err) == (0, "")
    assert "| POST /v1/chat/completions | yes |" in out
    assert "\n| row | echo (echo) |\n" in out


async def test_the_command_is_refused_in_one_line(served: Fabric) -> None:
    for options, why in (
        (("--key", "sk-wrong-0123456789"), "401: The API key is not known here."),
        (("--key", KEY, "--model", "nothing"), "404: The model 'nothing' is not served now."),
    ):
        code, out, err = await command(served, *options)
        assert (code, out) == (1, "")
        assert err.count("\n") == 1
        assert why in err
