"""The pages lead where they say, and their commands are ones."""

from __future__ import annotations

import re
import shlex
from functools import cache
from pathlib import Path

import pytest

from tests.commands import taken

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT)
    for place in ("*.md", "docs/**/*.md", "deploy/**/*.md")
    for path in ROOT.glob(place)
)
_LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
_BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_SHELL = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


@cache
def anchors(page: Path) -> set[str]:
    """Those of its headings, as forges make them."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", _BLOCK.sub("", page.read_text()), re.MULTILINE):
        words = re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading).lower()).replace(" ", "-")
        number = sum(
            re.fullmatch(re.escape(words) + r"(-\d+)?", each) is not None for each in found
        )
        found.add(f"{words}-{number}" if number else words)
    return found


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_its_links_lead_somewhere(page: Path) -> None:
    lost = []
    for link in _LINK.findall(_BLOCK.sub("", (ROOT / page).read_text())):
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, anchor = link.partition("#")
        to = (ROOT / page).parent / name if name else ROOT / page
        if not to.exists() or (anchor and anchor not in anchors(to.resolve())):
            lost.append(link)
    assert lost == []


def commands(page: Path) -> list[str]:
    """The lines of its shell blocks that call `headrace`."""
    lines = [
        line.removeprefix(".venv/bin/").removeprefix("docker compose exec broker ")
        for block in _SHELL.findall((ROOT / page).read_text())
        for line in re.sub(r"\\\n", " ", block).splitlines()
    ]
    return [line for line in lines if line.startswith("headrace ")]


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=str)
def test_its_commands_are_taken(page: Path) -> None:
    for line in commands(page):
        alone = re.sub(r"[|>].*", "", re.sub(r"\$(\w+)", r"\1", line))
        try:
            taken(shlex.split(alone, comments=True)[1:])
        except Exception as fault:
            raise AssertionError(line) from fault
