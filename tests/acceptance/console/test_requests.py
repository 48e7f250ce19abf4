"""Requests as the console shows them: one that runs, its end, its line, one that is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Locator, Page, expect

from tests.acceptance.console.asking import chat, new_key
from tests.acceptance.console.browser import PATIENCE, PHONE, Console

SLOTS = 2
"""Of the fabric's one model."""
HELD = 600_000
"""Milliseconds until the first token of one that is to run until it is ended."""

pytestmark = pytest.mark.asyncio(loop_scope="session")


@contextlib.asynccontextmanager
async def held(console: Console, count: int, key: str) -> AsyncIterator[list[asyncio.Task[str]]]:
    """So many requests that run until they are ended; behind the block their clients leave."""
    tasks = [
        asyncio.create_task(chat(console, key=key, echo={"first_ms": HELD})) for _ in range(count)
    ]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def states(page: Page, state: str) -> Locator:
    return page.locator(".hd-requests tbody tr", has=page.locator(f".hd-badge:text-is('{state}')"))


async def test_requests_are_followed_opened_and_cancelled(console: Console) -> None:
    key = await new_key(console, "follower", "inference")
    page = await console.page("/requests")
    await page.get_by_label("Filter").fill("follower")  # others' may be many
    async with held(console, SLOTS, key) as running:
        await expect(states(page, "running")).to_have_count(SLOTS, timeout=PATIENCE)
        waiting = asyncio.create_task(chat(console, key=key))
        running.append(waiting)  # it ends with the others
        await states(page, "queued").wait_for()
        await states(page, "running").first.locator("button").click()
        dialog = page.get_by_role("dialog", name="What became of it")
        await cancel(page, dialog, really=False)
        assert not any(each.done() for each in running)
        await cancel(page, dialog, really=True)
        done, _ = await asyncio.wait(running[:SLOTS], return_when=asyncio.FIRST_COMPLETED)
        assert "request_cancelled" in done.pop().result()
        await expect(dialog).to_contain_text("Ended: cancelled", timeout=PATIENCE)
        await dialog.get_by_role("button", name="Close").click()
        await expect(dialog).to_be_hidden(timeout=PATIENCE)  # it takes the focus until then

        # Its slot is for the one that waited, whose line shows that.
        assert "[DONE]" in await waiting
        await expect(states(page, "queued")).to_have_count(0, timeout=PATIENCE)
        await states(page, "done").first.locator("button").focus()
        await page.keyboard.press("Enter")
        line = await dialog.locator("svg.hd-tl").get_attribute("aria-label") or ""
        steps = [line.index(word) for word in ("Queued", "Claimed by", "First token", "Ended")]
        assert steps == sorted(steps)
        await console.shoot(page, "request")
        await page.keyboard.press("Escape")
        await expect(dialog).to_be_hidden(timeout=PATIENCE)
        await console.shoot(page, "requests")


async def cancel(page: Page, dialog: Locator, *, really: bool) -> None:
    await dialog.get_by_role("button", name="Cancel the request …").click()
    sure = page.get_by_role("dialog", name="Cancel the request?")
    answer = "Cancel the request" if really else "Let it run"
    await sure.get_by_role("button", name=answer, exact=True).click()
    await expect(sure).to_be_hidden(timeout=PATIENCE)


async def test_the_focus_stays_on_its_row_while_others_come(console: Console) -> None:
    key = await new_key(console, "focused", "inference", "usage:read")
    await chat(console, key=key)
    page = await console.page("/requests", key=key)
    button = states(page, "done").locator("button")
    await button.focus()
    held = await button.element_handle()
    assert held is not None
    await chat(console, key=key)
    await expect(button).to_have_count(2, timeout=PATIENCE)
    assert await button.nth(1).evaluate("(each, held) => each === held", held)
    assert await held.evaluate("each => document.activeElement === each")


async def test_a_filter_lets_through_what_has_its_words(console: Console) -> None:
    await chat(console)
    page = await console.page("/requests", width=PHONE)
    await states(page, "done").first.wait_for()
    await page.get_by_label("Filter").fill("local echo done")
    await states(page, "done").first.wait_for()
    await page.get_by_label("Filter").fill("nothing-like-that")
    await page.locator("text=No request is like that.").wait_for()
    await console.assert_accessible(page)


async def test_who_may_not_see_requests_is_told_why(console: Console) -> None:
    page = await console.page("/requests", key=await new_key(console, "blind", "inference"))
    assert "'usage:read'" in await page.inner_text("[role=alert]")
