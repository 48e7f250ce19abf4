"""Fixtures of all tiers that need a broker, and the option for the tests that are left out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.engines import sd
from deploy.engines.errors import BuildError
from deploy.nats import broker as brokers
from deploy.nats.broker import Broker
from tests.fabric import Fabric
from tests.fabric import fabric as open_fabric

# A likeness that fails is to show where.
pytest.register_assert_rewrite("tests.sim.likeness")

REAL_SD = "real_sd"
LEFT_OUT = "real sd-server tests: {} left out, run scripts/test --real-sd"


def pytest_addoption(parser: pytest.Parser) -> None:
    about = "also run the tests on a real sd-server; it is built first, in about 7 minutes"
    parser.addoption("--real-sd", action="store_true", help=about)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{REAL_SD}: on a real sd-server, run with --real-sd alone")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what takes minutes to build unless it is asked for, and says so."""
    if config.getoption("--real-sd"):
        return
    left = [item for item in items if item.get_closest_marker(REAL_SD)]
    items[:] = [item for item in items if item not in left]
    config.hook.pytest_deselected(items=left)
    config.stash[_LEFT] = len(left)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Builds sd-server ahead of the tests on it: it takes longer than a test may. Raises
    UsageError if it cannot be built."""
    wanted = any(item.get_closest_marker(REAL_SD) for item in session.items)
    if not wanted or session.config.getoption("collectonly"):
        return
    terminal: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    try:
        sd.build(terminal.write_line)
    except BuildError as fault:
        raise pytest.UsageError(f"--real-sd: {fault}") from None


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if left := config.stash.get(_LEFT, 0):
        terminalreporter.write_line(LEFT_OUT.format(left), yellow=True)


_LEFT = pytest.StashKey[int]()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A real nats-server on a free port with an empty store."""
    with brokers.start(tmp_path / "broker", 0, 0) as running:
        yield running


@pytest.fixture
async def fabric(broker: Broker, tmp_path: Path) -> AsyncIterator[Fabric]:
    """Real processes around `broker`; none runs yet."""
    async with open_fabric(broker, tmp_path) as made:
        yield made
