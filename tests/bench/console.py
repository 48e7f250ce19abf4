"""What an open page of the console costs: CPU of the console and of the ingress, with a page that a
real Chromium shows and without one, in turns:

    scripts/bench console [--turns 6] [--seconds 20] [--pages / /requests] [--traffic 0 5]

`headrace up` runs everything as people start it, with an echo for an engine. Shares are of a core.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from playwright.async_api import Page, async_playwright
from rich.console import Console as Terminal
from rich.table import Table

from tests.acceptance.console.browser import Console, ready
from tests.acceptance.headrace_up import WITH_CONSOLE, HeadraceUp, descendant, up
from tests.bench import load, report
from tests.bench.procs import ROOT, cpu_of, exiting_on_sigterm

TOOLS = ROOT / ".cache" / "tools"
"""Where `scripts/tools` puts programs."""
ENGINE = "echo=echo://?model=echo&slots=8"
PARTS = ("console", "ingress")
TARGETS = {"console": 3.0, "ingress": 0.2}
"""Per cent of a core for an open page."""
SETTLED = 3.0
"""Seconds until a page is drawn."""
GONE = 13.0
"""Seconds until what is done for a page has ended, which is 10 after it left."""
_LINK = re.compile(r"Console: (http://\S+)/in/\S+ \(works once")


@dataclass
class Case:
    """A page, requests a second, and per cent of a core by part: pairs of with and without."""

    page: str
    traffic: float
    pairs: list[tuple[dict[str, float], dict[str, float]]] = field(default_factory=list)

    def rows(self) -> list[tuple[str, ...]]:
        found = list[tuple[str, ...]]()
        for part in PARTS:
            shown, without = ([each[at][part] for each in self.pairs] for at in (0, 1))
            more = [a - b for a, b in zip(shown, without, strict=True)]
            found.append(
                (
                    f"{self.page}, {self.traffic:g}/s",
                    part,
                    f"{median(without):.3f}",
                    f"{median(shown):.3f}",
                    f"{median(more):.3f}",
                    f"≤ {TARGETS[part]:g}",
                    " ".join(f"{each:.3f}" for each in more),
                )
            )
        return found


class Fabric:
    """What is measured, and the browser's page."""

    def __init__(self, running: HeadraceUp, console: Console, page: Page, seconds: float) -> None:
        self._key, self._url = console.key, console.ingress
        self._console = console
        self._page = page
        self._seconds = seconds
        self._pids = {part: descendant(running.pid, f"deploy {part} ") for part in PARTS}

    async def pair(self, case: Case, *, shown_first: bool) -> None:
        """One turn with the page and one without."""
        found = {}
        for shown in (shown_first, not shown_first):
            if shown:
                await self._page.goto(self._console.url + case.page)
                await ready(self._page)
            else:
                await self._page.goto("about:blank")
            found[shown] = await self._turn(case.traffic, SETTLED if shown else GONE)
        case.pairs.append((found[True], found[False]))

    async def _turn(self, traffic: float, settling: float) -> dict[str, float]:
        """Per cent of a core."""
        async with self._asked(traffic, settling + self._seconds):
            await asyncio.sleep(settling)
            began, before = time.monotonic(), cpu_of(self._pids)
            await asyncio.sleep(self._seconds)
            took, after = time.monotonic() - began, cpu_of(self._pids)
        return {part: 100 * (after[part] - before[part]) / took for part in PARTS}

    @contextlib.asynccontextmanager
    async def _asked(self, traffic: float, seconds: float) -> AsyncIterator[None]:
        """While the block runs, so many requests come each second."""
        if not traffic:
            yield
            return
        plan = load.Plan(
            [self._url], round(traffic * seconds), rate=traffic, stream=True, model="echo",
            key=self._key,
        )  # fmt: skip
        asking = asyncio.create_task(asyncio.to_thread(load.run, plan))
        yield
        if failed := (await asking).failed:
            raise SystemExit(f"{failed[:3]}")


async def measured(given: argparse.Namespace, cases: list[Case]) -> None:
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-console-")))
        running = stack.enter_context(up(work / "data", "--engine", ENGINE, **WITH_CONSOLE))
        url = next(match[1] for line in running.lines if (match := _LINK.match(line)))
        async with async_playwright() as playwright:
            chromium = await playwright.chromium.launch(
                executable_path=TOOLS / "bin" / "chromium", args=["--no-sandbox"]
            )
            console = Console(running, url, chromium, next(TOOLS.glob("axe-*.js")), work)
            fabric = Fabric(running, console, await console.page(), given.seconds)
            for number in range(given.turns):
                for case in cases:
                    await fabric.pair(case, shown_first=number % 2 == 0)
            await console.leave()
            await chromium.close()


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench console", description=__doc__)
    parser.add_argument("--turns", type=int, default=6, help="pairs of each case (default: 6)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of a turn (default: 20)")
    parser.add_argument("--pages", nargs="+", default=["/", "/requests"])
    parser.add_argument("--traffic", type=float, nargs="+", default=[0, 5], help="requests/s")
    return parser.parse_args()


def main() -> int:
    """Print the table."""
    given = parsed()
    if not (TOOLS / "bin" / "chromium").exists():
        raise SystemExit("there is no Chromium: run scripts/tools")
    about = report.about(["scripts/bench", "console", *sys.argv[1:]])
    cases = [Case(page, traffic) for page in given.pages for traffic in given.traffic]
    with exiting_on_sigterm():
        asyncio.run(measured(given, cases))
    terminal = Terminal(width=160)
    for name, value in about.items():
        terminal.print(f"{name}: {value}", highlight=False, markup=False)
    table = Table(title="CPU of an open page (% of a core)")
    for name in ("page, requests", "of", "without", "with", "more", "aim", "each pair"):
        table.add_column(name, justify="right")
    for case in cases:
        for row in case.rows():
            table.add_row(*row)
    terminal.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
