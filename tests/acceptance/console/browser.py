"""A real Chromium that looks at the console of a running `headrace up`."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, Request

from deploy import home
from deploy.console import links
from tests.acceptance.headrace_up import HeadraceUp

WIDE, PHONE = 1440, 390
"""Widths in pixels."""
PATIENCE = 30_000
"""Milliseconds for anything to come, on a busy machine."""
SHOTS = "CONSOLE_SHOTS"
"""Names the folder for screenshots, outside the repository."""
_HEIGHT = 900
_DRAWER = """phone => {
  const drawer = document.querySelector('.q-drawer').getBoundingClientRect();
  const page = document.querySelector('.q-page-container').getBoundingClientRect();
  const main = document.querySelector('#main').getBoundingClientRect();
  return document.querySelector('.q-dialog') !== null
    || (drawer.right <= 0) === phone && (main.left < drawer.width) === phone && page.width > 0;
}"""
"""Whether the navigation is out of sight, as it is to be on a phone, and the page has its room.
They stay as they are below a dialog."""
_SETTLED = """dark => document.body.classList.contains('body--dark') === dark
  && document.getAnimations().every(each => each.playState !== 'running')"""
"""Whether the colours are those of the scheme, and nothing moves."""
_SERIOUS = ("serious", "critical")


class Console:
    """A running fabric with its console. `axe`: the file of axe-core."""

    def __init__(
        self, up: HeadraceUp, url: str, browser: Browser, axe: Path, shots: Path | None
    ) -> None:
        self.up = up
        self.data = up.data
        self.url = url
        self.browser = browser
        self.noise: list[str] = []
        """What the pages of this test complained of."""
        self._axe = axe.read_text()
        self._shots = shots
        self._contexts: list[BrowserContext] = []

    @property
    def ingress(self) -> str:
        """Without ``/v1``."""
        return self.up.url.removesuffix("/v1")

    @property
    def key(self) -> str:
        """The key that `up` printed: not the console's own."""
        return next(line.split()[-1] for line in self.up.lines if line.startswith("  key"))

    def link(self) -> str:
        """A new link that signs in once."""
        return self.url + links.path(links.make(self.data))

    async def context(self, *, width: int = WIDE, dark: bool = False) -> BrowserContext:
        """A browser profile in which nobody has signed in; it ends with the test."""
        made = await self.browser.new_context(
            viewport={"width": width, "height": _HEIGHT},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
        )
        made.set_default_timeout(PATIENCE)
        made.on("console", self._complained)
        made.on("weberror", lambda fault: self.noise.append(f"{fault.error}"))
        made.on("request", self._asked)
        self._contexts.append(made)
        return made

    async def page(
        self, path: str = "/", *, width: int = WIDE, dark: bool = False, key: str = ""
    ) -> Page:
        """A page, signed in by a link, or by `key`, in a profile of its own."""
        page = await (await self.context(width=width, dark=dark)).new_page()
        if key:
            await page.goto(f"{self.url}/sign-in")
            await page.fill("#key", key)
            await page.click("button")
        else:
            await page.goto(self.link())
        await page.wait_for_url(f"{self.url}/")
        if path != "/":
            await page.goto(self.url + path)
        await ready(page)
        return page

    async def shoot(self, page: Page, name: str) -> None:
        """Look at a page at both widths, light and dark, and keep how it looks if that was asked
        for. Raises AssertionError if one of them is not accessible, or scrolls sideways."""
        before = page.viewport_size
        for width in (WIDE, PHONE):
            await page.set_viewport_size({"width": width, "height": _HEIGHT})
            await page.wait_for_function(_DRAWER, arg=width == PHONE)
            for scheme in ("light", "dark"):
                await page.emulate_media(color_scheme=scheme)
                await page.wait_for_function(_SETTLED, arg=scheme == "dark")
                if self._shots:
                    await page.screenshot(path=self._shots / f"{name}-{width}-{scheme}.png")
                await self.assert_accessible(page, f"{name}, {width} px, {scheme}")
            assert not await page.evaluate(
                "document.documentElement.scrollWidth > document.documentElement.clientWidth"
            ), f"{name} scrolls sideways at {width} px"
        await page.emulate_media(color_scheme="light")
        if before:
            await page.set_viewport_size(before)

    async def assert_accessible(self, page: Page, what: str = "") -> None:
        """axe-core finds nothing serious or critical."""
        await page.evaluate(self._axe)
        found: dict[str, Any] = await page.evaluate("axe.run()")
        bad = [
            (each["id"], each["help"], [node["html"][:200] for node in each["nodes"]])
            for each in found["violations"]
            if each["impact"] in _SERIOUS
        ]
        assert not bad, f"{what}: {json.dumps(bad, indent=1)}"

    async def until(self, path: str, true: Callable[[Any], bool], key: str = "") -> Any:
        """What the ingress says at `path`, once `true` holds of that. `key`: else the console's."""
        headers = {"authorization": f"Bearer {key or home.found_console_key(self.data)}"}
        async with aiohttp.ClientSession(headers=headers) as http, asyncio.timeout(PATIENCE / 1000):
            while True:
                async with http.get(self.ingress + path) as answer:
                    if true(found := await answer.json()):
                        return found
                await asyncio.sleep(0.05)

    def forgive(self, *patterns: str) -> None:
        """What a test has its pages complain of, as regular expressions."""
        self.noise = [
            each for each in self.noise if not any(re.search(pattern, each) for pattern in patterns)
        ]

    async def leave(self) -> Sequence[str]:
        """Close all pages of a test; what they complained of."""
        for context in self._contexts:
            await context.close()
        said, self.noise, self._contexts = self.noise, [], []
        return said

    def _complained(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.noise.append(f"{message.type}: {message.text}")

    def _asked(self, request: Request) -> None:
        if not request.url.startswith(
            (self.url, self.url.replace("http", "ws", 1), "data:", "blob:")
        ):
            self.noise.append(f"asks another host: {request.url}")


async def choose(page: Page, label: str, option: str) -> None:
    """One of the options of a field."""
    await page.get_by_label(label, exact=True).click()
    await page.get_by_role("option", name=option, exact=True).click()


async def ready(page: Page) -> None:
    """The frame is there, and its socket is open."""
    await page.wait_for_selector("h1.hr-title")
    await page.wait_for_function("window.socket && window.socket.connected")


def shots() -> Path | None:
    """Where screenshots go, if somebody is to look at them."""
    return Path(os.environ[SHOTS]) if SHOTS in os.environ else None
