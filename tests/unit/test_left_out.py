"""Tests on a real sd-server are left out unless asked for, and never without a word."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIVE = "tests/acceptance/test_sd_live.py"


def run(*arguments: str, **variables: str) -> tuple[int, str]:
    """pytest's exit code, and what it said."""
    command = [sys.executable, "-m", "pytest", "-q", *arguments]
    kept = {**os.environ, **variables}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=kept)
    return done.returncode, done.stdout + done.stderr


def collected(*arguments: str) -> tuple[int, str]:
    return run("--collect-only", *arguments)


def test_without_the_option_they_are_left_out_and_it_says_so() -> None:
    code, said = collected(LIVE, "tests/unit/test_layers.py")
    assert code == 0
    assert f"{LIVE}::" not in said
    assert "left out, run scripts/test --real-sd" in said


def test_alone_nothing_is_left_which_is_no_success() -> None:
    code, said = collected(LIVE)
    assert code == 5, "pytest's code for no tests at all"
    assert "left out, run scripts/test --real-sd" in said


def test_with_the_option_they_are_there() -> None:
    code, said = collected("--real-sd", LIVE)
    assert code == 0
    assert said.count(f"{LIVE}::") >= 20
    assert "left out" not in said


def test_one_that_cannot_be_built_is_told_before_any_test(tmp_path: Path) -> None:
    code, said = run("--real-sd", LIVE, CXX="no-such-compiler", XDG_CACHE_HOME=str(tmp_path))
    assert code == 4, "pytest's code for a wrong use of it"
    assert "real_sd: CXX names 'no-such-compiler', which is not there: install one" in said
