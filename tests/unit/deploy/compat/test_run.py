"""One run: what is asked of whom, what is told of it, and when it gives up."""

from __future__ import annotations

import asyncio

import pytest

from deploy.compat import run as runs
from deploy.compat.probes import COMMON, OURS, ROWS
from deploy.compat.rows import Row
from deploy.compat.run import GIVE_UP, Run, examine
from deploy.compat.target import Refused, Target
from deploy.compat.transport import Answer, Ask, Away
from tests.unit.deploy.compat.model import FACTS, Model, whole

THE_19 = """POST /v1/chat/completions
POST /v1/completions
POST /v1/embeddings
POST /v1/images/generations
POST /v1/audio/transcriptions
GET /v1/models
streaming (SSE)
tool / function calling
JSON mode / structured output
vision
logprobs
n > 1
temperature / top_p
max_tokens / max_completion_tokens
stop
seed
API keys
several models at one address
reachable from elsewhere""".splitlines()


class SilentEdge:
    """No answer ever comes, or the connection fails with `fault`."""

    def __init__(self, fault: Exception | None = None) -> None:
        self._fault = fault
        self.asked = 0

    async def send(self, ask: Ask) -> Answer:
        self.asked += 1
        if self._fault is not None:
            raise self._fault
        await asyncio.Event().wait()
        raise AssertionError


def test_the_rows() -> None:
    assert [row.title for row in COMMON] == THE_19
    assert len({row.id for row in ROWS}) == len({row.title for row in ROWS}) == len(ROWS)
    assert len(OURS) >= 15
    assert all(row.proof and not row.proof.endswith(".") for row in ROWS)


@pytest.fixture
def _two_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    async def of_all(target: Target) -> str:
        return f"asked by {target.model}"

    async def of_each(target: Target) -> str:
        await target.chat("Hi.")
        return target.model

    rows = (Row("each", "Each", of_each, "p"), Row("all", "All", of_all, "p", whole=True))
    monkeypatch.setattr(runs, "ROWS", rows)


@pytest.mark.usefixtures("_two_rows")
async def test_a_table_is_filled_and_told_cell_by_cell() -> None:
    run = Run({name: Target(name, FACTS, whole(Model().send)) for name in ("a", "b")})
    filled = asyncio.create_task(run.fill())
    told = [event async for event in run.events()]
    found = await filled
    assert sorted((cell["row"], cell["model"]) for cell in told) == [
        ("all", "a"),
        ("all", "b"),
        ("each", "a"),
        ("each", "b"),
    ]
    assert (told[-1]["done"], told[-1]["of"]) == (4, 4)
    assert found["models"][0] == {"id": "a", "engines": ("echo",), "nodes": ("node-1",)}
    assert found["rows"][0]["cells"] == {
        "a": {"answer": "yes", "reason": "a"},
        "b": {"answer": "yes", "reason": "b"},
    }
    assert {cell["reason"] for cell in found["rows"][1]["cells"].values()} == {"asked by a"}


async def test_a_table_of_nobody() -> None:
    found = await Run({}).fill()
    assert found["models"] == []
    assert len(found["rows"]) == len(ROWS)


async def test_a_model_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ask(target: Target) -> str:
        await target.chat("Hi.")
        return ""

    rows = tuple(Row(f"r{i}", f"R{i}", ask, "p", patience=0.01) for i in range(GIVE_UP + 2))
    monkeypatch.setattr(runs, "ROWS", rows)
    lost = SilentEdge()
    run = Run({"a": Target("a", FACTS, whole(lost.send))})
    await run.fill()
    assert lost.asked == GIVE_UP
    reasons = [run.cells[row.id, "a"].reason for row in rows]
    assert reasons[0] == "no answer within 0.01 s"
    assert reasons[-1] == f"not asked: {GIVE_UP} probes before it had no answer in time"


async def test_a_connection_that_fails() -> None:
    target = Target("a", FACTS, whole(SilentEdge(Away("the connection failed: reset")).send))
    cell = await examine(ROWS[0], target)
    assert (cell.answer, cell.reason) == ("no", "the connection failed: reset")


def test_a_refusal_is_told_without_advice() -> None:
    message = "'stop' has no effect: so it is. Leave it out, send the header 'x: true', or else."
    refused = Refused(400, {"code": "unsupported_parameter", "message": message})
    assert refused.reason == "400 unsupported_parameter: 'stop' has no effect: so it is."
    message = "The model 'ears' has no /v1/embeddings; it has /v1/audio/transcriptions."
    refused = Refused(400, {"code": "unsupported_endpoint", "message": message})
    only = "the model has only /v1/audio/transcriptions."
    assert refused.reason == f"400 unsupported_endpoint: {only}"
