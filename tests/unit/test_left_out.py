"""Tests on a real sd-server are left out unless asked for, and never without a word."""

from __future__ import annotations

import pytest

from tests import left_out
from tests.acceptance import test_sd_fidelity, test_sd_live
from tests.builders.errors import BuildError
from tests.builders.store import Say

TESTS = """
import pytest

@pytest.mark.real_sd
def test_on_the_real_one(): ...

def test_of_another_kind(): ...
"""


def builds(monkeypatch: pytest.MonkeyPatch, fault: str = "") -> list[str]:
    """The builds that a run of pytest asks for; none of them is made."""
    made: list[str] = []

    def build(say: Say) -> None:
        made.append("built")
        if fault:
            raise BuildError(fault)

    monkeypatch.setitem(left_out.BUILDS, left_out.REAL_SD, build)
    return made


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    pytester.makepyfile(TESTS)
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    return pytester.runpytest_inprocess("-p", "tests.left_out", *arguments)


def test_left_out_or_asked_for(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    made = builds(monkeypatch)
    told = "real sd-server tests: 1 left out, run scripts/test --real-sd"
    result = run(pytester)
    result.assert_outcomes(passed=1, deselected=1)
    assert told in result.outlines
    alone = run(pytester, "-k", "real")
    assert alone.ret == pytest.ExitCode.NO_TESTS_COLLECTED, "nothing was tested: no success"
    assert told in alone.outlines
    assert not made
    asked = run(pytester, "--real-sd")
    asked.assert_outcomes(passed=2)
    assert made
    assert told not in asked.outlines


def test_one_that_cannot_be_built_is_told_before_any_test(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    builds(monkeypatch, "there is no C++ compiler")
    result = run(pytester, "--real-sd")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.assert_outcomes()
    assert "ERROR: real_sd: there is no C++ compiler" in result.errlines


def test_they_are_marked() -> None:
    for module in (test_sd_live, test_sd_fidelity):
        marks = module.pytestmark if isinstance(module.pytestmark, list) else [module.pytestmark]
        assert left_out.REAL_SD in [mark.name for mark in marks]
