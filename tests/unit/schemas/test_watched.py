from __future__ import annotations

import asyncio

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from schemas import metrics, watched


def faults(name: str) -> float:
    return float(metrics.TASK_FAULTS.labels(name)._value.get())


async def test_a_task_that_fails_is_told_counted_and_begun_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watched, "FIRST", 0.001)
    begun, before = 0, faults("test")

    async def work() -> None:
        nonlocal begun
        begun += 1
        if begun < 4:
            raise OverflowError(f"number {begun}")

    with capture_logs() as logged:
        await watched.watched("test", work)
    assert (begun, faults("test") - before) == (4, 3)
    assert [(each["event"], each["task"], each["log_level"]) for each in logged] == [
        ("task.failed", "test", "error")
    ] * 3


async def test_one_that_is_cancelled_is_not_begun_again() -> None:
    begun = asyncio.Event()

    async def work() -> None:
        assert not begun.is_set()
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(watched.watched("idle", work))
    await begun.wait()
    # So its first fault is seen as an increase.
    assert REGISTRY.get_sample_value("headrace_task_faults_total", {"task": "idle"}) == 0
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
