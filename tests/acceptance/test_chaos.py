"""A whole Headrace under load, to which each kind of disturbance is done once.

`scripts/chaos` does it for longer, many at a time.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.run import run
from tests.chaos.strikes import KINDS, one_of_each

SEED, CLIENTS = 2026, 8


@pytest.mark.timeout(300)
async def test_each_kind_of_disturbance_loses_and_changes_nothing(tmp_path: Path) -> None:
    report = await run(tmp_path, SEED, one_of_each(SEED), CLIENTS, in_turn=True)
    assert report.faults == [], report.table()
    assert report.strikes.struck == dict.fromkeys((kind.name for kind in KINDS), 1)
