from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders import store
from tests.builders.errors import BuildError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "headrace" / "engines"


def never(scratch: Path, target: Path) -> None:
    raise AssertionError("built a second time")


def make(scratch: Path, target: Path) -> None:
    assert list(scratch.iterdir()) == list(target.iterdir()) == []
    (scratch / "waste").write_text("x")
    (target / "program").write_text("built")


def test_what_was_built_is_kept_and_found(cache: Path) -> None:
    assert store.find("ears-1") is None
    place = store.obtain("ears-1", make, print)
    assert place == cache / "ears-1" == store.find("ears-1")
    assert (place / "program").read_text() == "built"
    assert store.obtain("ears-1", never, print) == place
    assert {path.name for path in cache.iterdir()} == {"ears-1", "ears-1.lock"}


def test_a_build_that_fails_leaves_nothing(cache: Path) -> None:
    def broken(scratch: Path, target: Path) -> None:
        (target / "half").write_text("x")
        raise BuildError("no luck")

    with pytest.raises(BuildError, match="no luck"):
        store.obtain("ears-1", broken, print)
    assert store.find("ears-1") is None
    assert [path.name for path in cache.iterdir()] == ["ears-1.lock"]
    assert store.obtain("ears-1", make, print)


def test_the_cache_is_in_the_home_directory_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert store.root() == Path("/home/somebody/.cache/headrace/engines")


def test_of_two_processes_one_builds_and_the_other_waits(cache: Path) -> None:
    program = (
        "from tests.builders import store\n"
        "def fail(scratch, target): raise SystemExit('built a second time')\n"
        "store.obtain('ears-1', fail, lambda line: print(line, flush=True))"
    )
    cache.mkdir(parents=True)
    with (cache / "ears-1.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = [sys.executable, "-c", program]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout is not None
            assert "another process builds it" in other.stdout.readline()
            (cache / "ears-1").mkdir()
            fcntl.flock(lock, fcntl.LOCK_UN)
    assert other.returncode == 0
