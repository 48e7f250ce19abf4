from __future__ import annotations

import asyncio

import orjson
import pytest

from schemas.bus import BusError, Message
from tests.unit import fakes
from tests.unit.fakes import FakeBus
from workers.body import PIECE, fetch
from workers.engines.base import EngineFault

BODY = bytes(range(256)) * (PIECE * 5 // 256) + b"the rest"
JOB = fakes.job(body=b"", body_size=len(BODY))


class BodySource:
    """An ingress that hands over `BODY`, with faults for some of the questions."""

    def __init__(self, *faults: BusError | bytes) -> None:
        self.faults = list(faults)
        self.asked: list[list[int]] = []
        self.open = self.most = 0

    async def __call__(self, subject: str, payload: bytes) -> Message:
        assert subject == f"b.in-1.box.{JOB.id}"
        at, size = orjson.loads(payload)
        self.asked.append([at, size])
        self.open += 1
        self.most = max(self.most, self.open)
        await asyncio.sleep(0)
        self.open -= 1
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, BusError):
            raise fault
        return fakes.message("_W.1", BODY[at : at + size] if fault is None else fault)


async def test_a_body_comes_whole_in_pieces(bus: FakeBus) -> None:
    bus.answer = source = BodySource()
    assert await fetch(bus, fakes.HOLDER, JOB) == BODY
    assert sorted(source.asked) == [
        *([at * PIECE, PIECE] for at in range(5)),
        [5 * PIECE, len(b"the rest")],
    ]
    assert 1 < source.most <= 4


@pytest.mark.parametrize("fault", [BusError("no responders"), b"", b"too short"])
async def test_a_piece_is_asked_for_again(bus: FakeBus, fault: BusError | bytes) -> None:
    bus.answer = source = BodySource(fault, fault)
    assert await fetch(bus, fakes.HOLDER, JOB) == BODY
    assert len(source.asked) == 8


async def test_an_ingress_that_is_gone_is_a_fault(bus: FakeBus) -> None:
    bus.answer = BodySource(*[BusError("no responders")] * 99)
    with pytest.raises(EngineFault, match="did not hand over") as caught:
        await fetch(bus, fakes.HOLDER, JOB)
    assert caught.value.retryable
    assert not caught.value.away


async def test_a_fetch_may_be_cancelled(bus: FakeBus) -> None:
    async def answer(subject: str, payload: bytes) -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    bus.answer = answer
    fetching = asyncio.create_task(fetch(bus, fakes.HOLDER, JOB))
    await fakes.turns()
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    assert len(asyncio.all_tasks()) == 1
