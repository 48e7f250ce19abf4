from __future__ import annotations

from pathlib import Path

import pytest

from tests.power_cut.synced import Synced


@pytest.fixture
def synced(tmp_path: Path) -> Synced:
    return Synced(tmp_path)


def test_what_was_written_behind_the_last_sync_is_gone(tmp_path: Path, synced: Synced) -> None:
    file, other = tmp_path / "1.blk", tmp_path / "new"
    file.write_bytes(b"synced")
    synced.feed(f"7 fsync(12<{file}>) = 0\n")
    file.write_bytes(b"synced and more")
    other.write_bytes(b"never")
    assert synced.cut() == len(b" and more") + len(b"never")
    assert (file.read_bytes(), other.read_bytes()) == (b"synced", b"")


def test_what_is_renamed_keeps_what_it_has(tmp_path: Path, synced: Synced) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(b"x")
    synced.feed(f"7 fsync(12<{old}>) = 0\n")
    old.rename(new)
    synced.feed(f'7 renameat(AT_FDCWD</>, "{old}", AT_FDCWD</>, "{new}") = 0\n')
    assert synced.cut() == 0
    assert new.read_bytes() == b"x"


def test_what_is_opened_so_is_synced_by_each_write(tmp_path: Path, synced: Synced) -> None:
    file = tmp_path / "meta.inf"
    synced.feed(f'7 openat(AT_FDCWD</>, "{file}", O_WRONLY|O_CREAT|O_SYNC, 0640) = 9<{file}>\n')
    file.write_bytes(b"x")
    synced.feed(f'7 write(9<{file}>, "x"..., 1) = 1\n')
    assert synced.cut() == 0


def test_a_sync_counts_once_it_has_returned(tmp_path: Path, synced: Synced) -> None:
    file = tmp_path / "1.blk"
    file.write_bytes(b"x")
    synced.feed(f"7 fsync(12<{file}> <unfinished ...>\n")
    synced.feed("8 fsync(13</elsewhere>) = -1 EIO (Input/output error)\n")
    file.write_bytes(b"xy")
    synced.feed("7 <... fsync resumed>) = 0\n")
    assert synced.cut() == 0


def test_in_half_a_minute_the_kernel_writes_everything(tmp_path: Path, synced: Synced) -> None:
    (tmp_path / "meta.inf").write_bytes(b"x")
    synced.settle()
    assert synced.cut() == 0
