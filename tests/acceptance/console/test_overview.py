"""The overview: what it shows of a fabric whose parts come and go."""

from __future__ import annotations

import asyncio
import os
import signal

import aiohttp
import pytest
from playwright.async_api import Page, expect

from tests.acceptance.console.browser import PATIENCE, Console
from tests.acceptance.headrace_up import HEADRACE, descendant, environment, headrace

pytestmark = pytest.mark.asyncio(loop_scope="session")

SPARE = "spare-model"


def card(page: Page, title: str) -> str:
    return f"section.hr-card:has(h2:text-is('{title}'))"


async def say(page: Page, title: str, text: str) -> None:
    """Wait until the part of the page with this title has this text."""
    await expect(page.locator(card(page, title))).to_contain_text(text, timeout=PATIENCE)


async def chat(console: Console, words: int) -> None:
    body = {"model": "echo", "stream": True}
    said = {**body, "messages": [{"role": "user", "content": "word " * words}]}
    key = {"Authorization": f"Bearer {console.key}"}
    where = f"{console.ingress}/v1/chat/completions"
    async with (
        aiohttp.ClientSession(headers=key) as http,
        http.post(where, json=said) as answer,
    ):
        assert answer.status == 200
        assert b"[DONE]" in await answer.read()


async def test_it_shows_models_nodes_and_the_last_hour(console: Console) -> None:
    await chat(console, 40)
    page = await console.page("/")
    await say(page, "Models", "2 free")
    await say(page, "Nodes", "serving")
    await say(page, "Warnings", "All is well")
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
    await say(page, "Nodes", "gone")
    forgotten = await asyncio.to_thread(headrace, "model", "forget", SPARE, "--data", console.data)
    assert forgotten.returncode == 0, forgotten.stderr
    await expect(page.locator(card(page, "Models"))).not_to_contain_text(SPARE, timeout=PATIENCE)


async def test_a_broker_that_is_away_is_said_and_comes_back(console: Console) -> None:
    page = await console.page("/")
    await say(page, "Nodes", "serving")
    banner = page.locator(".hr-banner")
    assert not await banner.is_visible()
    broker = descendant(console.up.pid, "nats-server")
    os.kill(broker, signal.SIGSTOP)
    try:
        await expect(banner).to_contain_text("the broker is away", timeout=PATIENCE)
        await console.assert_accessible(page)
    finally:
        os.kill(broker, signal.SIGCONT)
    await expect(banner).to_be_hidden(timeout=PATIENCE)
    await say(page, "Models", "2 free")
    await chat(console, 3)


async def test_a_key_that_is_no_admins_sees_its_models_alone(console: Console) -> None:
    made = await asyncio.to_thread(
        headrace,
        *("key", "create", "overview-reader", "--scope", "inference", "--scope", "usage:read"),
        *("--data", console.data),
    )
    assert made.returncode == 0, made.stderr
    page = await console.page("/", key=made.stdout.strip())
    await say(page, "Models", "2 free")
    assert await page.locator(card(page, "Nodes")).count() == 0
    await say(page, "The last hour", "now 0 tokens/s")
    await console.assert_accessible(page)
