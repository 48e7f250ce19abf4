"""The live matrix, run on a click."""

from __future__ import annotations

import asyncio
import re

import pytest
from playwright.async_api import Page, expect

from tests.acceptance.console.browser import PATIENCE, Console, choose

pytestmark = pytest.mark.asyncio(loop_scope="session")
_GOES_ON = re.compile(r"\d of \d|\d work, ")


async def test_a_model_is_probed_on_a_click(console: Console) -> None:
    page = await console.page("/compatibility")
    await choose(page, "Model", "echo")
    await page.get_by_role("button", name="Probe").click()
    await page.get_by_role("progressbar").wait_for()
    await page.get_by_text("echo: ", exact=False).filter(has_text="do not").wait_for()
    row = page.get_by_role("row", name="POST /v1/chat/completions", exact=False).first
    assert "yes" in await row.inner_text()
    await console.shoot(page, "compatibility")


async def test_a_run_can_be_stopped(console: Console) -> None:
    page = await console.page("/compatibility")
    stop = page.get_by_role("button", name="Stop", include_hidden=True)
    await page.get_by_role("button", name="Probe").click()
    await stop.click()
    await expect(page.get_by_role("status")).to_have_text("stopped", timeout=PATIENCE)
    # The ingress has only one run at a time, and this one is over, soon.
    async with asyncio.timeout(PATIENCE / 1000):
        while not await _goes_on(page):
            pass
    # Its slots are for other tests; it may also be over by now.
    await stop.dispatch_event("click")
    await page.get_by_role("button", name="Probe").wait_for()


async def _goes_on(page: Page) -> bool:
    """Whether a run that is begun now is let in."""
    await page.get_by_role("button", name="Probe").click()
    status = page.get_by_role("status")
    told = re.compile(rf"{_GOES_ON.pattern}|\([a-z_]+\)$")
    await expect(status).to_have_text(told, timeout=PATIENCE)
    return bool(_GOES_ON.search(await status.inner_text()))
