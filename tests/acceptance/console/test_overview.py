"""The overview: what it shows of a fabric whose parts come and go."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from playwright.async_api import Page, expect

from tests.acceptance.console.asking import chat, new_key
from tests.acceptance.console.browser import PATIENCE, Console
from tests.acceptance.headrace_up import HEADRACE, descendant, environment

pytestmark = pytest.mark.asyncio(loop_scope="session")

SPARE = "spare-model"


def card(page: Page, title: str) -> str:
    return f"section.hr-card:has(h2:text-is('{title}'))"


async def say(page: Page, title: str, text: str) -> None:
    """Wait until the part of the page with this title has this text."""
    await expect(page.locator(card(page, title))).to_contain_text(text, timeout=PATIENCE)


async def test_it_shows_models_nodes_and_the_last_hour(console: Console) -> None:
    assert "[DONE]" in await chat(console, 40)
    page = await console.page("/")
    await say(page, "Models", "2 free")
    await say(page, "Nodes", "serving")
    await expect(page.locator(card(page, "Warnings"))).not_to_contain_text("Looking")
    await say(page, "Waiting, by model and tenant", "Nobody waits.")
    # What ended is drawn once its ten seconds are over.
    plot = page.locator("figure.hd-plot svg[aria-label^='Tokens a second'][aria-label*='highest']")
    await plot.wait_for()
    await page.click("text=Figures")
    await page.locator("table:has-text('The last hour') tbody tr").first.wait_for()
    await console.shoot(page, "overview")


async def test_a_worker_that_is_killed_is_missed(console: Console) -> None:
    page = await console.page("/")
    worker = await asyncio.create_subprocess_exec(
        *(*HEADRACE, "worker", "--data", str(console.data), "--node", "spare-node"),
        *("--engine", f"spare=echo://?model={SPARE}"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment(),
    )
    try:
        await say(page, "Models", SPARE)
        await say(page, "Nodes", "spare-node")
    finally:
        worker.kill()
        await worker.wait()
    await say(page, "Models", "nobody serves it")
    gone = page.locator(card(page, "Nodes")).locator("tr", has_text="spare-node")
    await expect(gone).to_contain_text("gone", timeout=PATIENCE)


async def test_a_broker_that_is_away_is_said_and_comes_back(console: Console) -> None:
    page = await console.page("/")
    await say(page, "Nodes", "serving")
    banner = page.locator(".hr-banner")
    await expect(banner).to_be_hidden(timeout=PATIENCE)
    broker = descendant(console.up.pid, "nats-server")
    os.kill(broker, signal.SIGSTOP)
    try:
        await expect(banner).to_contain_text("the broker is away", timeout=PATIENCE)
        await console.assert_accessible(page)
    finally:
        os.kill(broker, signal.SIGCONT)
    await expect(banner).to_be_hidden(timeout=PATIENCE)
    await say(page, "Models", "2 free")
    assert "[DONE]" in await chat(console)


async def test_a_key_that_is_no_admins_sees_its_models_alone(console: Console) -> None:
    key = await new_key(console, "overview-reader", "inference", "usage:read")
    page = await console.page("/", key=key)
    await say(page, "Models", "2 free")
    assert await page.locator(card(page, "Nodes")).count() == 0
    await say(page, "The last hour", "now 0 tokens/s")
    await console.assert_accessible(page)
