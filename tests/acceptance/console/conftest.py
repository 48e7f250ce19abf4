"""One fabric, one console and one Chromium for all tests of one process; a profile for each page.

Their tests share an event loop, as the browser's driver has to: each file says
``pytestmark = pytest.mark.asyncio(loop_scope="session")``.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import async_playwright

from tests import ports
from tests.acceptance.console import browser as browsers
from tests.acceptance.console.browser import Console
from tests.acceptance.headrace_up import WITH_CONSOLE, up

NODE = "hub-box"
ENGINE = "echo=echo://?model=echo&slots=2"
INSTALLED_WITHIN = 600
"""Seconds, for tests the first of which waits for Chromium to be unpacked."""
_LINK = re.compile(r"Console: (http://\S+)/in/\S+ \(works once")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.timeout(INSTALLED_WITHIN))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def console(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Console]:
    folder = tmp_path_factory.mktemp("console")
    config = folder / "headrace.toml"
    config.write_text(f'[share]\nhost = "127.0.0.1"\nport = {ports.free()}\n')
    words = ("--engine", ENGINE, "--node", NODE, "--config", str(config))
    with up(folder / "data", *words, **WITH_CONSOLE) as running:
        found = next(match for line in running.lines if (match := _LINK.match(line)))
        async with async_playwright() as playwright:
            chromium = await playwright.chromium.launch(
                executable_path=tools / "chromium", args=["--no-sandbox"]
            )
            axe = next(tools.parent.glob("axe-*.js"))
            yield Console(running, found[1], chromium, axe, browsers.shots())
            await chromium.close()


@pytest_asyncio.fixture(autouse=True, loop_scope="session")
async def quiet(console: Console) -> AsyncIterator[None]:
    """No page of a test may complain, nor ask another host."""
    yield
    said = await console.leave()
    assert not said, "\n".join(said)
