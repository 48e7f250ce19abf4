"""The page of nodes: who is here, and what the hub is asked to do."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from playwright.async_api import Locator, Page

from tests.acceptance.console.browser import Console
from tests.acceptance.headrace_up import HEADRACE, Running, environment

pytestmark = pytest.mark.asyncio(loop_scope="session")

ENGINE = "echo=echo://?model=there"


def row(page: Page, name: str, state: str = "") -> Locator:
    return page.locator("tr", has_text=name).filter(has_text=state).first


async def test_a_node_is_drained_and_gets_jobs_again(console: Console) -> None:
    page = await console.page("/nodes")
    await row(page, "hub-box", "active").wait_for()
    await page.click("[aria-label='Drain hub-box']")
    await row(page, "hub-box", "drained").wait_for()
    await page.click("[aria-label='Undrain hub-box']")
    await row(page, "hub-box", "active").wait_for()


async def test_a_machine_is_invited_joins_and_is_evicted(console: Console, tmp_path: Path) -> None:
    page = await console.page("/nodes")
    await page.fill("[aria-label='Name of the machine']", "gpu-box")
    await page.click("text=Invite >> nth=-1")
    line = await page.inner_text(".hr-join")
    await row(page, "gpu-box", "invited").wait_for()
    await console.shoot(page, "nodes")

    words = [*HEADRACE, *line.split()[1:], "--data", str(tmp_path), "--engine", ENGINE]
    worker = Running(words, environment())
    try:
        await row(page, "gpu-box", "active").filter(has_text="there").wait_for()
        await page.click("[aria-label='Evict gpu-box']")
        await console.assert_accessible(page, "the question")
        await page.click("[role=dialog] >> text=Cancel")
        await row(page, "gpu-box", "active").wait_for()
        await page.click("[aria-label='Evict gpu-box']")
        await page.click("[role=dialog] >> text=Evict >> nth=-1")
        await row(page, "gpu-box", "evicted").wait_for()
        await page.click("[aria-label='Forget gpu-box']")
        await page.click("[role=dialog] >> text=Forget >> nth=-1")
        await page.locator("tr", has_text="gpu-box").wait_for(state="detached")
    finally:
        await asyncio.to_thread(worker.reap)


async def test_a_name_that_is_none_is_told(console: Console) -> None:
    page = await console.page("/nodes")
    await page.fill("[aria-label='Name of the machine']", "a/b")
    await page.keyboard.press("Enter")
    assert "printable letters" in await page.inner_text("[role=alert]")


async def test_who_is_no_admin_is_told_so(console: Console) -> None:
    page = await console.page("/nodes", key=console.key)
    assert "needs the scope 'admin'" in await page.inner_text("[role=alert]")
    assert await page.locator("table").count() == 0
