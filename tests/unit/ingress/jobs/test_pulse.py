from __future__ import annotations

import asyncio

import pytest

from ingress.jobs import pulse
from ingress.jobs.pulse import calmly, until_next


@pytest.mark.parametrize("now", [1000.0, 1000.03, 1000.2499])
async def test_timers_go_off_together_and_not_twice(
    monkeypatch: pytest.MonkeyPatch, now: float
) -> None:
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    for period in (0.05, 0.1, 0.25):
        wait = until_next(period)
        at = (now + wait + pulse.OFFSET) / period
        assert period / 2 < wait <= 1.5 * period
        assert at == pytest.approx(round(at), abs=1e-6)
    assert until_next(0.0) == 0.0


async def test_another_process_wakes_up_at_other_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: 1000.0)
    monkeypatch.setattr(pulse, "OFFSET", 0.0)
    first = until_next(0.25)
    monkeypatch.setattr(pulse, "OFFSET", 0.07)
    assert until_next(0.25) == pytest.approx(first - 0.07)


async def test_who_waits_calmly_is_woken_up_by_news(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "CALM", 3600.0)
    news = asyncio.Event()
    news.set()  # of before
    waiting = asyncio.create_task(calmly(news))
    await asyncio.sleep(0)
    assert not waiting.done()
    news.set()
    await waiting


async def test_without_news_the_wait_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "CALM", 0.001)
    await calmly(asyncio.Event())
