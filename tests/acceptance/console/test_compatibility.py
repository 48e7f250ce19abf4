"""The live matrix, run on a click."""

from __future__ import annotations

import pytest

from tests.acceptance.console.browser import Console, choose

pytestmark = pytest.mark.asyncio(loop_scope="session")


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
    await page.get_by_role("button", name="Probe").click()
    await page.get_by_role("button", name="Stop").click()
    await page.get_by_role("button", name="Probe").wait_for()
    # The ingress has only one run at a time, and this one is over.
    await page.get_by_role("button", name="Probe").click()
    await page.get_by_role("row", name="POST /v1/chat/completions").first.wait_for()
