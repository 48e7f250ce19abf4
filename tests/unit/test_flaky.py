"""A test that fails and then passes is named, and fails a run in CI unless it is in the list."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pytest

from tests import flaky
from tests.flaky import LIST, Known, known, verdict

STEADY = "def test_steady(): ..."
FLAKY = """
from pathlib import Path

def test_flaky():
    ran = Path("ran")
    first = not ran.exists()
    ran.touch()
    assert not first
"""
BROKEN = "def test_broken(): assert False"
NAME = "test_flaky.py::test_flaky"


@pytest.mark.parametrize(
    ("ci", "listed", "code"),
    [("true", "", 1), ("", "", 0), ("true", f"2999-01-01 {NAME} # a race", 0)],
)
def test_a_flaky_test(
    ci: str,
    listed: str,
    code: int,
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytester.makepyfile(test_steady=STEADY, test_flaky=FLAKY)
    assert again(pytester, monkeypatch, ci, listed) == code
    said = capsys.readouterr().err
    assert f"FLAKY: {NAME} failed, then passed" in said
    assert ("known: a race" in said) == bool(listed)
    assert (flaky.ADVICE in said) != bool(listed)


def test_a_broken_test_fails_the_run_and_is_not_flaky(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytester.makepyfile(test_broken=BROKEN, test_steady=STEADY)
    assert again(pytester, monkeypatch, "", "") == 1
    assert capsys.readouterr().err == ""


def again(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, ci: str, listed: str) -> int:
    """The exit code of the second run, after a first one that fails."""
    monkeypatch.setenv("CI", ci)
    (pytester.path / "listed.txt").write_text(listed)
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")

    def run(arguments: Sequence[str]) -> int:
        ended = pytester.inline_run(*arguments).ret
        assert ended is not None
        return int(ended)

    assert run(()) == pytest.ExitCode.TESTS_FAILED
    return flaky.main(run, Path("listed.txt"))


def test_until_its_day_a_name_stands_for_its_cases() -> None:
    entries = known("# a comment\n\n2030-02-01 a.py::test_x # slow disk\n")
    assert entries == [Known(date(2030, 2, 1), "a.py::test_x", "slow disk")]
    cases = ["a.py::test_x", "a.py::test_x[one two]"]
    assert verdict(cases, entries, date(2030, 1, 31), ci=True)[0] == 0
    assert verdict(cases, entries, date(2030, 2, 1), ci=True)[0] == 1
    assert verdict(["a.py::test_xy"], entries, date(2030, 1, 31), ci=True)[0] == 1


@pytest.mark.parametrize("line", ["2030-02-01 a.py::test_x", "2030-02-01 # why", "soon a.py # why"])
def test_a_line_that_says_too_little_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"DATE|isoformat"):
        known(line)


def test_the_list_can_be_read() -> None:
    known(LIST.read_text())
