"""Where the time of a run went is told: by file, with what processes of its tests used."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import spent

ROOT = Path(__file__).parents[2]
BURNS = "import time\nwhile time.process_time() < 0.2: pass\n"
TESTS = """
import subprocess, sys
import pytest

@pytest.mark.parametrize("number", range(2))
def test_it(number):
    subprocess.run([sys.executable, "-c", {burns!r}], check=True)
"""
ROW = re.compile(r"^ *(?P<clock>[0-9.]+) +(?P<cpu>[0-9.]+) (?P<what>.*)$")


def rows(result: pytest.RunResult) -> dict[str, float]:
    """Seconds of CPU by what they are told of."""
    found = [match for line in result.outlines if (match := ROW.match(line))]
    return {match["what"]: float(match["cpu"]) for match in found}


@pytest.mark.parametrize("several", [(), ("-n", "2", "--dist", "loadfile")])
def test_it_tells_what_each_file_took(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, several: tuple[str, ...]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    pytester.makepyfile(test_busy=TESTS.format(burns=BURNS), test_idle="def test_it(): ...")
    result = pytester.runpytest_subprocess("-p", "tests.spent", "--spent", "1", *several)
    result.assert_outcomes(passed=3)
    told = rows(result)
    assert told["test_busy.py"] > 0.3
    assert "test_idle.py" not in told, "it was asked for one file"
    assert told["all 2 files"] >= told["test_busy.py"]
    assert sum(what.startswith(("gw", "main")) for what in told) == max(1, len(several) // 2)


def test_processes_that_run_count_as_well_as_those_that_ended() -> None:
    before = spent.cpu(os.getpid())
    command = [sys.executable, "-c", f"{BURNS}print(flush=True)\ninput()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        running = spent.cpu(os.getpid())
        process.kill()
    assert running - before > 0.1
    assert spent.cpu(os.getpid()) >= running


def test_without_being_asked_it_says_nothing(
    pytester: pytest.Pytester,
) -> None:
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function")
    pytester.makepyfile("def test_it(): ...")
    result = pytester.runpytest_inprocess("-p", "tests.spent")
    result.assert_outcomes(passed=1)
    assert not rows(result)
