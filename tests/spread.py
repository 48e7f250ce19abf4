"""A pytest plugin: how the tests of a run with several processes are spread over them.

The tests of a file run in one process, one after the other; so do those of a folder in `TOGETHER`,
as they share what takes many seconds to start. Those of `long.txt` come first, the longest before
all others, lest one process still runs when the others have ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

LIST = Path(__file__).with_name("long.txt")
TOGETHER = ("tests/acceptance/console/", "tests/acceptance/surface/")


def share(nodeid: str) -> str:
    """What is run as one: a folder of `TOGETHER`, or a file."""
    file = nodeid.partition("::")[0]
    return next((folder for folder in TOGETHER if file.startswith(folder)), file)


def known(text: str) -> dict[str, float]:
    """Seconds by share: a line is SECONDS SHARE."""
    rows = (line.split() for line in text.splitlines() if not line.startswith("#"))
    return {name: float(seconds) for seconds, name in rows}


def ordered(items: list[pytest.Item], seconds: Mapping[str, float]) -> list[pytest.Item]:
    """The longest shares first; all else stays in its order."""
    return sorted(items, key=lambda item: -seconds.get(share(item.nodeid), 0.0))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """One process alone keeps the order of the files."""
    if hasattr(config, "workerinput"):
        items[:] = ordered(items, known(LIST.read_text()))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """xdist's own, which asks what belongs together; None, for its own alone, unless whole files
    are to stay together: ``--dist loadfile``."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

    class Shares(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return share(nodeid)

    return Shares(config, log)
