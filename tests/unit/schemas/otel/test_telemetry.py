"""What waits is bounded, sent again where that may help, and counted where it is lost."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import pytest_asyncio

from schemas import metrics
from schemas.otel import telemetry
from schemas.otel.meters import Meters
from schemas.otel.options import Options
from schemas.otel.spans import Spans
from schemas.otel.telemetry import Telemetry
from schemas.otel.words import DURATION, Kind, What
from schemas.traces import Trace, new_span
from tests.doubles.otlp.receiver import Receiver, receiver
from tests.unit.fakes import PATIENCE

CALLER = Trace("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", True, "a=1")
WHAT = What("one", Kind.INTERNAL)


@dataclass
class Record:
    """A request that is over; `spans`: how many it has."""

    trace: Trace
    spans: int = 1
    bad: bool = False

    def tell(self, spans: Spans, meters: Meters) -> None:
        if self.bad:
            raise RuntimeError("a fault of ours")
        for _ in range(self.spans):
            spans.add(WHAT, self.trace, new_span(), (1, 2))
        meters.observe((), (DURATION, 1.0))


def made(url: str = "http://127.0.0.1:1", **more: object) -> Telemetry:
    signals = more.pop("signals", ("traces", "metrics"))
    assert isinstance(signals, tuple)
    given: dict[str, object] = {
        "urls": {signal: f"{url}/v1/{signal}" for signal in signals},
        "headers": {signal: {} for signal in signals},
        "ratio": 1.0,
        "by_caller": True,
        "resource": {"service.name": "test"},
        "ca": "",
        "delay": 0.01,
        "interval": 0.01,
        "timeout": 10.0,
        "most": 100,
        **more,
    }
    return Telemetry(Options(**given))  # type: ignore[arg-type]


@asynccontextmanager
async def telling(url: str, **more: object) -> AsyncIterator[Telemetry]:
    """One that is at work."""
    told = made(url, **more)
    told.start()
    try:
        yield told
    finally:
        await told.close()


@pytest_asyncio.fixture
async def collector() -> AsyncIterator[Receiver]:
    async with receiver() as found:
        yield found


async def test_a_span_of_its_own_below_the_callers() -> None:
    found = made().begin(CALLER)
    assert (found.id, found.state, found.sampled) == (CALLER.id, "a=1", True)
    assert found.span != CALLER.span
    first = made().begin(None)
    assert first.id != made().begin(None).id


@pytest.mark.parametrize("sampled", [True, False])
async def test_the_caller_decides(sampled: bool) -> None:
    caller = Trace(CALLER.id, CALLER.span, sampled)
    assert made(ratio=0.0).begin(caller).sampled is sampled
    assert made(ratio=1.0).begin(caller).sampled is sampled
    assert made(ratio=1.0, by_caller=False).begin(caller).sampled


async def test_a_share_of_traces_is_sampled() -> None:
    tenth = made(ratio=0.1)
    found = [tenth.begin(None) for _ in range(5000)]
    assert 300 < sum(trace.sampled for trace in found) < 700
    assert all((int(trace.id[16:], 16) < 0.1 * 2**64) == trace.sampled for trace in found)
    assert not made(ratio=0.0).begin(None).sampled


async def test_without_spans_a_trace_is_passed_on_as_it_is() -> None:
    found = made(signals=("metrics",))
    assert found.begin(CALLER) is CALLER
    assert not found.begin(None).sampled


async def test_records_are_sent(collector: Receiver) -> None:
    async with telling(collector.url) as told:
        told.ended(Record(CALLER, 3))
        await collector.until(lambda it: len(it.spans) == 3)
        await collector.counted(DURATION.name, 1)


async def test_a_fault_of_one_record_costs_no_other(collector: Receiver) -> None:
    async with telling(collector.url) as told:
        told.ended(Record(CALLER, bad=True))
        told.ended(Record(CALLER))
        await collector.until(lambda it: len(it.spans) == 1)


async def test_what_waits_is_sent_at_the_end(
    collector: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry, "LAST_WORDS", 60.0)
    async with telling(collector.url, delay=600.0) as told:
        told.ended(Record(CALLER))
    assert len(collector.spans) == 1
    await told.close()  # nothing is left of it


async def test_many_are_sent_before_the_delay_is_over(collector: Receiver) -> None:
    async with telling(collector.url, delay=600.0, most=10_000) as told:
        for _ in range(telemetry.MANY):
            told.ended(Record(CALLER))
        await collector.until(lambda it: len(it.spans) == telemetry.MANY)


async def test_a_batch_is_sent_whatever_is_left_of_the_last_few(collector: Receiver) -> None:
    async with telling(collector.url, delay=600.0, most=2 * telemetry.AT_ONCE + 6) as told:
        for _ in range(telemetry.AT_ONCE):
            told.ended(Record(CALLER))
        await asyncio.sleep(0)  # they are told of
        for _ in range(3):  # half of those that may wait have come
            told.ended(Record(CALLER))
        await collector.until(lambda it: len(it.spans) == telemetry.AT_ONCE + 3)


async def test_a_record_is_let_go_long_before_it_is_sent() -> None:
    told = made(delay=600.0, most=10_000)
    gone = [weakref.ref(record := Record(CALLER))]
    told.ended(record)
    del record
    for _ in range(telemetry.AT_ONCE - 1):
        told.ended(Record(CALLER))
    await asyncio.sleep(0)  # the next turn of the loop
    assert gone[0]() is None


async def test_more_than_may_wait_are_dropped_and_counted() -> None:
    told = made()
    dropped = metrics.OTEL_DROPPED.labels("records")
    before = dropped._value.get()
    for _ in range(105):
        told.ended(Record(CALLER))
    assert dropped._value.get() - before == 5


async def test_it_is_sent_again_where_that_may_help(
    collector: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry, "FIRST", 0.01)
    collector.statuses += [503, 429]
    async with telling(collector.url, signals=("traces",)) as told:
        told.ended(Record(CALLER))
        await collector.until(lambda it: it.spans)
    assert collector.calls == 3


async def test_what_the_endpoint_refuses_is_not_sent_again(collector: Receiver) -> None:
    collector.statuses.append(400)
    dropped = metrics.OTEL_DROPPED.labels("spans")
    before = dropped._value.get()
    async with telling(collector.url, signals=("traces",)) as told:
        told.ended(Record(CALLER, 2))
        await collector.until(lambda it: it.calls == 1)
        told.ended(Record(CALLER))
        await collector.until(lambda it: it.spans)
    assert (collector.calls, dropped._value.get() - before) == (2, 2)


async def test_records_that_come_meanwhile_wait_for_the_next_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else each request under load would be followed by a tiny one, and metrics never told."""
    told, posted, measured = made(delay=600.0, interval=0.0, most=10), list[str](), asyncio.Event()

    async def post(signal: str, body: bytes) -> None:
        posted.append(signal)
        if signal == "traces":
            told.ended(Record(CALLER))
        else:
            measured.set()

    monkeypatch.setattr(told, "_post", post)
    told.start()
    for _ in range(5):  # half of those that may wait
        told.ended(Record(CALLER))
    async with asyncio.timeout(PATIENCE):
        await measured.wait()
    monkeypatch.setattr(told, "_post", _taken)
    await told.close()
    assert posted == ["traces", "metrics"]


async def _taken(signal: str, body: bytes) -> None:
    """An endpoint that takes what it gets."""


async def test_metrics_do_not_wait_for_spans_that_nobody_takes(
    collector: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry, "FIRST", 59.0)
    collector.statuses.append(503)
    async with telling(collector.url) as told:
        told.ended(Record(CALLER))
        await collector.counted(DURATION.name, 1)
        assert not collector.spans


async def test_the_end_does_not_wait_for_the_next_try(
    collector: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry, "LAST_WORDS", 60.0)
    monkeypatch.setattr(telemetry, "FIRST", 59.0)
    collector.statuses.append(503)
    async with telling(collector.url, signals=("traces",)) as told:
        told.ended(Record(CALLER))
        await collector.until(lambda it: it.calls == 1)
    assert (collector.calls, len(collector.spans)) == (2, 1)


async def test_what_is_left_at_the_end_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "LAST_WORDS", 0.0)
    dropped = [metrics.OTEL_DROPPED.labels(what) for what in ("spans", "records")]
    before = [each._value.get() for each in dropped]
    told, asked = made(), asyncio.Event()

    async def post(signal: str, body: bytes) -> None:
        asked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(told, "_post", post)
    told.start()
    told.ended(Record(CALLER, 3))
    async with asyncio.timeout(PATIENCE):
        await asked.wait()
    told.ended(Record(CALLER))
    told.ended(Record(CALLER))
    await told.close()
    after = [each._value.get() for each in dropped]
    assert [now - then for now, then in zip(after, before, strict=True)] == [3, 2]
