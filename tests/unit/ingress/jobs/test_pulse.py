from __future__ import annotations

import asyncio

import pytest

from ingress.jobs import pulse
from ingress.jobs.pulse import calmly, until_next


async def test_timers_go_off_together_and_not_twice() -> None:
    for period in (0.05, 0.1, 0.25):
        wait = until_next(period)
        at = (asyncio.get_running_loop().time() + wait) / period
        assert period / 2 < wait <= 1.5 * period
        assert at == pytest.approx(round(at), abs=0.05)
    assert until_next(0.0) == 0.0


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
