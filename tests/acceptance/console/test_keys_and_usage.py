"""Keys are made, used, limited and revoked, what was used is shown, and credits are granted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import openai
import pytest
import pytest_asyncio
from playwright.async_api import Page

from tests.acceptance.console.browser import Console, choose
from tests.acceptance.headrace_up import HEADRACE, Running, environment

pytestmark = pytest.mark.asyncio(loop_scope="session")
PROVIDER = """
[[route]]
name = "paid"
model = "paid"
providers = ["sim/gpt-4o-mini"]

[[providers]]
name = "sim"
kind = "openai"
key_env = "SIM_KEY"
"""


async def _make(page: Page, name: str, scopes: tuple[str, ...] = ()) -> str:
    """A new key; its secret."""
    await page.get_by_role("button", name="New key").click()
    await page.get_by_label("Name", exact=True).fill(name)
    await page.get_by_label("Account", exact=True).fill(f"{name}s")
    if scopes:
        await page.get_by_label("Scopes", exact=True).click()
        for scope in scopes:
            await page.get_by_role("option", name=scope, exact=True).click()
        await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Make it").click()
    secret = await page.locator("[data-secret]").inner_text()
    await page.get_by_role("button", name="I have kept it").click()
    await page.locator("[data-secret]").wait_for(state="detached")
    return secret


def _client(console: Console, secret: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key=secret, base_url=console.up.url, max_retries=0)


async def _ask(client: openai.AsyncOpenAI) -> None:
    messages = [{"role": "user", "content": "one two three"}]
    await client.chat.completions.create(model="echo", messages=messages)  # type: ignore[arg-type]


async def test_a_key_is_made_used_limited_and_revoked(console: Console) -> None:
    page = await console.page("/keys")
    secret = await _make(page, "alice")
    assert secret not in await page.content()
    await console.shoot(page, "keys")
    async with _client(console, secret) as client:
        await _ask(client)
        await page.get_by_role("button", name="Change alice").click()
        await page.get_by_text("Limits", exact=True).click()
        await page.get_by_label("Requests a minute").fill("none")
        await page.get_by_role("button", name="Change it").click()
        await page.get_by_text("limits.requests", exact=False).wait_for()
        await page.get_by_label("Requests a minute").fill("1")
        await console.assert_accessible(page)
        await page.get_by_role("button", name="Change it").click()
        await page.get_by_text("1 requests/min").wait_for()
        await _ask(client)
        with pytest.raises(openai.RateLimitError):
            await _ask(client)
        await page.get_by_role("button", name="Rotate alice").click()
        await page.get_by_label("The old secret is good for another").fill("0")
        await page.get_by_role("button", name="Rotate it").click()
        second = await page.locator("[data-secret]").inner_text()
        assert second != secret
        await page.get_by_role("button", name="I have kept it").click()
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()
    async with _client(console, second) as client:
        await client.models.list()
        await page.get_by_role("button", name="Revoke alice").click()
        await page.get_by_role("button", name="Leave").click()
        await client.models.list()
        await page.get_by_role("button", name="Revoke alice").click()
        await page.get_by_role("button", name="Revoke it").click()
        await page.get_by_role("button", name="Revoke alice").wait_for(state="detached")
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()


async def test_usage_shows_what_was_used(console: Console) -> None:
    page = await console.page("/keys")
    secret = await _make(page, "bob", ("usage:read",))
    async with _client(console, secret) as client:
        for _ in range(3):
            await _ask(client)
    await console.until("/v1/usage", lambda found: found["total"]["requests"] == 3, secret)
    await page.goto(f"{console.url}/usage")
    await choose(page, "By", "key")
    row = page.get_by_role("row", name="bob")
    assert (await row.inner_text()).split()[:2] == ["bob", "3"]
    assert "bob 3" in (await page.locator(".hr-plot").get_attribute("aria-label") or "")
    await console.shoot(page, "usage")
    # Another sees its own account alone, and no credits.
    own = await console.page("/usage", key=secret)
    assert await own.locator("h2").all_inner_texts() == ["Usage"]
    await choose(own, "By", "key")
    await own.get_by_role("row", name="bob").wait_for()
    assert await own.locator(".hr-plain tbody tr").count() == 1
    await own.goto(f"{console.url}/keys")
    await own.get_by_role("row", name="account bobs").wait_for()
    assert await own.get_by_role("button", name="New key").count() == 0


async def test_a_key_that_may_not_read_usage_is_told_so(console: Console) -> None:
    secret = await _make(await console.page("/keys"), "carol")
    page = await console.page("/usage", key=secret)
    assert "it needs the scope 'usage:read'" in await page.get_by_role("alert").inner_text()


@pytest_asyncio.fixture(loop_scope="session")
async def fallback(console: Console, tmp_path: Path) -> AsyncIterator[None]:
    """It keeps the credits; its provider is never asked."""
    config = tmp_path / "headrace.toml"
    config.write_text(PROVIDER)
    command = [*HEADRACE, "fallback", "--data", str(console.data), "--config", str(config)]
    running = Running(command, {**environment(), "SIM_KEY": "sk-none-0123456789"})
    try:
        await console.until("/admin/credits", lambda found: "data" in found)
        yield
    finally:
        await asyncio.to_thread(running.reap)


async def test_credits_are_granted_and_an_unknown_account_is_asked_about(
    console: Console, fallback: None
) -> None:
    page = await console.page("/usage")
    await page.get_by_role("button", name="Grant credits").click()
    await page.get_by_label("Account").fill("nobody")
    await page.get_by_label("Amount").fill("12.50")
    await page.get_by_label("Note").fill("for tests")
    await page.get_by_role("button", name="Grant", exact=True).click()
    await page.get_by_text("No key has the account 'nobody'").wait_for()
    await page.get_by_role("button", name="Grant it all the same").click()
    await page.get_by_role("row", name="nobody 12.50").wait_for()
    await page.get_by_role("row", name="for tests").wait_for()
    await console.shoot(page, "credits")
