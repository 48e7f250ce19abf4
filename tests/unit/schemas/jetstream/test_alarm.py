from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from schemas import alerts
from schemas.alerts import Budget
from schemas.bus import ApiError, BusError
from schemas.jetstream import alarm as alarms
from schemas.jetstream.alarm import Alarm
from schemas.jetstream.streams import AFTER, MOVED_ON
from tests.unit.fakes import FakeBus

BUDGET = Budget("monthly_tokens", "acme", "k", "2026-11", 0, 1000, "tokens")
TAKEN = ApiError("alerts.x", {"err_code": MOVED_ON, "description": "wrong last sequence"})


async def written(alarm: Alarm) -> None:
    await asyncio.gather(*alarm._writing)


def thresholds(bus: FakeBus) -> list[int]:
    return [alerts.unpack(put.payload).threshold for put in bus.puts]


async def test_each_threshold_is_said_once_a_period(bus: FakeBus) -> None:
    alarm = Alarm(bus, [80, 100])
    for used in (0, 799, 800, 900, 999, 1000, 1100):
        alarm.note(replace(BUDGET, used=used))
    await written(alarm)
    assert thresholds(bus) == [80, 100]
    assert [put.headers for put in bus.puts] == [{AFTER: "0"}] * 2
    assert alarm.is_done("monthly_tokens", "acme", "k", "2026-11")
    assert not alarm.is_done("monthly_tokens", "acme", "k", "2026-12")
    alarm.note(replace(BUDGET, period="2026-12", used=850))
    alarm.note(replace(BUDGET, key="", used=1000))
    await written(alarm)
    assert thresholds(bus) == [80, 100, 80, 80, 100]
    assert len({put.subject for put in bus.puts}) == 5


async def test_what_does_not_do_is_used_up(bus: FakeBus) -> None:
    alarm = Alarm(bus, [80, 100])
    alarm.note(replace(BUDGET, used=810), empty=True)
    await written(alarm)
    assert thresholds(bus) == [80, 100]
    assert alerts.unpack(bus.puts[1].payload).budget.used == 810


async def test_only_who_wrote_it_says_it(bus: FakeBus) -> None:
    with capture_logs() as lines:
        first, second = Alarm(bus, [80]), Alarm(bus, [80])
        first.note(replace(BUDGET, used=800))
        await written(first)
        bus.put_fault = TAKEN
        second.note(replace(BUDGET, used=801))
        await written(second)
    [line] = lines
    assert (line["event"], line["log_level"], line["threshold"]) == (
        "alerts.reached",
        "warning",
        80,
    )
    assert (line["account"], line["key"], line["used"], line["of"]) == ("acme", "k", 800, 1000)


async def test_a_broker_that_is_away_gets_it_later(
    bus: FakeBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alarms, "AGAIN", 0.0)
    bus.put_fault = BusError("away")
    alarm = Alarm(bus, [80])
    with capture_logs() as lines:
        alarm.note(replace(BUDGET, used=800))
        while not lines:
            await asyncio.sleep(0)
        bus.put_fault = None
        await written(alarm)
    assert thresholds(bus) == [80]


async def test_it_does_not_try_for_ever(bus: FakeBus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alarms, "AGAIN", 0.0)
    bus.put_fault = BusError("away")
    alarm = Alarm(bus, [80])
    with capture_logs() as lines:
        alarm.note(replace(BUDGET, used=800))
        await written(alarm)
    assert lines[-1]["event"] == "alerts.lost"
    assert len(lines) == alarms.TRIES + 1


async def test_what_waits_is_bounded_and_noticed_again(
    bus: FakeBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alarms, "MOST", 2)
    monkeypatch.setattr(alarms, "KNOWN", 3)
    alarm = Alarm(bus, [80])
    for number in range(5):
        alarm.note(replace(BUDGET, key=f"k{number}", used=800))
    await written(alarm)
    assert len(bus.puts) == 2
    for number in range(5):
        alarm.note(replace(BUDGET, key=f"k{number}", used=800))
        await written(alarm)
    assert {alerts.unpack(put.payload).budget.key for put in bus.puts} >= {"k2", "k3", "k4"}


async def test_closing_waits_a_moment_for_what_is_written(
    bus: FakeBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alarms, "LAST_WORDS", 0.01)
    alarm = Alarm(bus, [80])
    alarm.note(replace(BUDGET, used=800))
    await alarm.close()
    assert thresholds(bus) == [80]
    bus.put_fault = BusError("away")
    alarm.note(replace(BUDGET, used=800, key="other"))
    await alarm.close()
    assert not alarm._writing
