"""What the doctor makes of the disk below a broker, and of the broker's log."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from deploy import disk, home
from deploy.nats.config import LOG_NAME

FAILED = "[1] [ERR] JetStream stream 'HEADRACE > JOBS' critical write error: write: no space left\n"
STARTED = "[1] [INF] Starting nats-server\n"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    place = home.broker_store(tmp_path)
    place.mkdir(parents=True)
    return place


@pytest.mark.parametrize(
    ("free", "level"), [(2**30, "ok"), (2**27, "warn"), (2**20, "fail"), (0, "fail")]
)
def test_room(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch, free: int, level: str
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=free))
    (found,) = disk.look(tmp_path)
    assert (found.level, f"{free // 2**20} MiB" in found.what) == (level, True)


@pytest.mark.parametrize(
    ("log", "told"),
    [
        ("", False),
        (STARTED, False),
        (STARTED + FAILED, True),
        (STARTED + FAILED + STARTED, False),
        (STARTED + FAILED + "x" * 1_000_000, True),
        (FAILED, True),
    ],
)
def test_a_broker_that_could_not_write_confirms_nothing_until_it_is_started_again(
    tmp_path: Path, store: Path, log: str, told: bool
) -> None:
    (store / LOG_NAME).write_text(log)
    found = [each for each in disk.look(tmp_path) if "could not write" in each.what]
    assert [each.level for each in found] == ["fail"] * told


@pytest.mark.parametrize(
    ("older", "newer", "log", "told"),
    [
        (STARTED, FAILED, "x", True),
        (FAILED, STARTED, "x", False),
        (STARTED, FAILED, STARTED, False),
        (STARTED + FAILED, "x", "x", True),
    ],
)
def test_the_log_is_read_from_the_last_start_on_though_it_was_rotated(
    tmp_path: Path, store: Path, older: str, newer: str, log: str, told: bool
) -> None:
    (store / LOG_NAME).write_text(log)
    (store / f"{LOG_NAME}.2026.11.29.10.11.12.000000001").write_text(older)
    (store / f"{LOG_NAME}.2026.11.30.10.11.12.000000001").write_text(newer)
    assert any("could not write" in each.what for each in disk.look(tmp_path)) == told


def test_without_a_broker_here_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert list(disk.look(tmp_path)) == []
