"""The row of clients that leave: what it makes of the slots that a worker tells of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import orjson
import pytest

from deploy.compat.probes import ROWS, streams
from deploy.compat.run import Cell, examine
from deploy.compat.target import Target
from deploy.compat.transport import Answer, Ask, Flow
from tests.unit.deploy.compat.model import FACTS, error

ROW = next(row for row in ROWS if row.id == "cancel")


class SlowEdge:
    """A stream of `pieces` pieces, and a slot that is busy as `told` says, look by look."""

    def __init__(self, told: Iterator[int], pieces: int, refusal: Answer | None = None) -> None:
        self._told = told
        self._pieces = pieces
        self._refusal = refusal
        self._last = 0
        self.limits: list[int] = []

    def busy(self) -> int:
        self._last = next(self._told, self._last)
        return self._last

    @asynccontextmanager
    async def open(self, ask: Ask) -> AsyncIterator[Flow]:
        self.limits.append(orjson.loads(ask.body)["max_tokens"])

        async def chunks() -> AsyncIterator[bytes]:
            if self._refusal is not None:
                yield self._refusal.body
            for _ in range(self._pieces):
                yield b"data: {}\n\n"

        yield self._refusal.status if self._refusal else 200, {}, chunks()


async def probed(told: list[int], pieces: int = 3, refusal: Answer | None = None) -> Cell:
    slow = SlowEdge(iter(told), pieces, refusal)
    return await examine(ROW, Target("mill", replace(FACTS, busy=slow.busy), slow.open))


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_CARDS", 0.02)
    monkeypatch.setattr(streams, "_PATIENCE", 0.05)
    monkeypatch.setattr(streams, "_LOOK", 0.01)


async def test_the_slot_is_freed() -> None:
    cell = await probed([0, 0, 1, 1, 0])
    assert cell.answer == "yes"
    assert cell.reason.startswith("the slot was free within 0.")


async def test_the_slot_stays_busy() -> None:
    cell = await probed([0, 1])
    assert cell.answer == "no"
    assert "still busy" in cell.reason


async def test_the_answer_is_over_too_soon() -> None:
    cell = await probed([0], pieces=2)
    assert (cell.answer, cell.reason.startswith("not seen: ")) == ("partial", True)


async def test_what_others_use_is_not_counted() -> None:
    assert (await probed([2, 2, 2, 3, 2])).answer == "yes"


async def test_a_model_without_chats() -> None:
    cell = await probed([0], 0, error(400, "unsupported_endpoint", "It has no chats."))
    assert (cell.answer, cell.reason) == ("no", "400 unsupported_endpoint: It has no chats.")


@pytest.mark.parametrize(("context", "limit"), [(0, 2000), (1024, 512), (65_536, 2000)])
async def test_the_long_answer_fits_the_context(context: int, limit: int) -> None:
    slow = SlowEdge(iter([0, 1]), 3)
    facts = replace(FACTS, busy=slow.busy, context=context)
    await examine(ROW, Target("mill", facts, slow.open))
    assert slow.limits == [limit]
