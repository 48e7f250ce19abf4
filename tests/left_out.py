"""A pytest plugin: tests on a real sd-server are left out unless ``--real-sd`` asks for them, and
real engines are built ahead of the tests on them, as that takes longer than a test may.

Where several processes run tests, all of them would wait: there whisper-server is built beside the
tests (`scripts/test` begins it), and those on it have the time to wait for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.builders import sd, whisper
from tests.builders.errors import BuildError
from tests.builders.store import Say

REAL_SD = "real_sd"
BESIDE = "real_whisper"
BUILDS: dict[str, Callable[[Say], object]] = {REAL_SD: sd.build, BESIDE: whisper.build}
"""What the tests with a marker need, and how it is made."""
BUILT_WITHIN = 600
"""Seconds, for tests that wait for an engine that is built."""
LEFT_OUT = "real sd-server tests: {} left out, run scripts/test --real-sd"
_LEFT = pytest.StashKey[int]()


def pytest_addoption(parser: pytest.Parser) -> None:
    about = "also run the tests on a real sd-server; it is built first, in about 7 minutes"
    parser.addoption("--real-sd", action="store_true", help=about)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{REAL_SD}: on a real sd-server, run with --real-sd alone")
    config.addinivalue_line("markers", f"{BESIDE}: on a real whisper-server")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what takes minutes to build unless it is asked for, and says so."""
    if _one_of_several(config):
        for item in items:
            if item.get_closest_marker(BESIDE):
                item.add_marker(pytest.mark.timeout(BUILT_WITHIN))
    if config.getoption("--real-sd"):
        return
    left = [item for item in items if item.get_closest_marker(REAL_SD)]
    items[:] = [item for item in items if item not in left]
    config.hook.pytest_deselected(items=left)
    config.stash[_LEFT] = len(left)


def _one_of_several(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Builds what the collected tests need. Raises UsageError if it cannot be built."""
    if session.config.getoption("collectonly"):
        return
    terminal: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    for marker, build in BUILDS.items():
        if marker == BESIDE and _one_of_several(session.config):
            continue
        if not any(item.get_closest_marker(marker) for item in session.items):
            continue
        try:
            build(terminal.write_line if terminal else print)
        except BuildError as fault:
            raise pytest.UsageError(f"{marker}: {fault}") from None


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if left := config.stash.get(_LEFT, 0):
        terminalreporter.write_line(LEFT_OUT.format(left), yellow=True)
