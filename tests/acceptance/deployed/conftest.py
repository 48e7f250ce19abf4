"""The programs that read what is deployed (`scripts/tools`), in an environment of their own."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

Tool = Callable[..., subprocess.CompletedProcess[str]]


INSTALLED_WITHIN = 600
"""Seconds, for tests the first of which waits for the programs."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.timeout(INSTALLED_WITHIN))


@pytest.fixture(scope="session")
def tool(tools: Path) -> Tool:
    """Runs one of them, and returns what it said; a test may `check` that it is pleased."""

    def run(
        name: str, *arguments: str | Path, check: bool = True, fed: str = "", **more: str
    ) -> subprocess.CompletedProcess[str]:
        """`fed`: what it reads. `more`: variables for its environment."""
        found = tools / name
        done = subprocess.run(
            [found if found.exists() else name, *map(str, arguments)],
            input=fed,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
            cwd=ROOT,
            env={**os.environ, **more},
        )
        if check:
            assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
        return done

    return run
