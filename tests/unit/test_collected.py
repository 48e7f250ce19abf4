"""Tests that are collected cost the garbage collector nothing, and it works while they run."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAYS = """
import gc

def test_it_works():
    assert gc.isenabled()
    assert gc.get_freeze_count() > 10_000
"""


def test_the_collector_works_again_and_has_less_to_do(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makepyfile(SAYS)
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    ended = pytester.runpytest_subprocess("-p", "tests.collected")
    ended.assert_outcomes(passed=1)
