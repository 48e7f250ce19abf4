"""The live matrix, run on a click."""

from __future__ import annotations

import asyncio
import re

import pytest
from playwright.async_api import Page, expect

from tests.acceptance.console.browser import PATIENCE, Console, choose

pytestmark = pytest.mark.asyncio(loop_scope="session")
_REFUSED = re.compile(r"\([a-z_]+\)$")
_BEGUN = re.compile(rf"\d of \d|\d work, |{_REFUSED.pattern}")
_OVER = re.compile(rf"^stopped$|\d work, |{_REFUSED.pattern}")


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
    # The ingress has only one run at a time, and this one may be over before it is stopped.
    async with asyncio.timeout(PATIENCE / 1000):
        while not (await _goes_on(page) and await _stopped(page)):
            pass
        while not await _goes_on(page):  # the stopped one is over, soon
            pass
    await _stop(page)  # its slots are for other tests; it may also be over by now
    await page.get_by_role("button", name="Probe").wait_for()


async def _goes_on(page: Page) -> bool:
    """Whether a run that is begun now is let in."""
    await page.get_by_role("button", name="Probe").click()
    status = page.get_by_role("status")
    await expect(status).to_have_text(_BEGUN, timeout=PATIENCE)
    return not _REFUSED.search(await status.inner_text())


async def _stop(page: Page) -> None:
    """Also if the button is hidden, as the run is over."""
    stop = page.get_by_role("button", name="Stop", include_hidden=True)
    await stop.dispatch_event("click")


async def _stopped(page: Page) -> bool:
    """Whether the run ends by the button, and not by itself."""
    await _stop(page)
    status = page.get_by_role("status")
    await expect(status).to_have_text(_OVER, timeout=PATIENCE)
    return await status.inner_text() == "stopped"
