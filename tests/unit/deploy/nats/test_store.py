"""One owner for each store, and no directory taken over that is not ours."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.nats.errors import StoreBusy, StoreUnusable
from deploy.nats.store import ADDRESS, LOCK, Address, claimed, find, note

HERE = Address("nats://127.0.0.1:1", "http://127.0.0.1:2", 3)


def test_a_new_store_is_private(tmp_path: Path) -> None:
    store = tmp_path / "a" / "b"
    with claimed(store):
        assert stat.S_IMODE(store.stat().st_mode) == 0o700
        assert stat.S_IMODE((store / LOCK).stat().st_mode) == 0o600


def test_an_empty_directory_becomes_private(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with claimed(tmp_path):
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700


def test_one_owner_at_a_time(tmp_path: Path) -> None:
    with claimed(tmp_path):
        with pytest.raises(StoreBusy, match=f"process {os.getpid()} runs"), claimed(tmp_path):
            pass
        with pytest.raises(StoreBusy), claimed(tmp_path):
            pass
    with claimed(tmp_path) as lock:
        assert lock > 2


def test_whoever_inherited_the_lock_holds_it_too(tmp_path: Path) -> None:
    with claimed(tmp_path) as lock:
        heir = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[lock])
    with pytest.raises(StoreBusy), claimed(tmp_path):
        pass
    heir.communicate()
    with claimed(tmp_path):
        assert heir.returncode == 0


def test_the_lock_goes_with_a_killed_owner(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib\nfrom deploy.nats.store import claimed\n"
        "with claimed(pathlib.Path(sys.argv[1])): print('mine', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout
        assert owner.stdout.readline() == b"mine\n"
        with pytest.raises(StoreBusy, match=f"process {owner.pid} runs"), claimed(tmp_path):
            pass
        owner.kill()
    with claimed(tmp_path):
        assert owner.returncode == -9


def test_a_directory_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    tmp_path.chmod(0o755)
    with pytest.raises(StoreUnusable, match="holds other files"), claimed(tmp_path):
        pass
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnusable, match="exists"), claimed(tmp_path / "file"):
        pass
    with pytest.raises(StoreUnusable, match="Not a directory"), claimed(tmp_path / "file" / "x"):
        pass


def test_the_address_is_found_while_it_stands(tmp_path: Path) -> None:
    assert find(tmp_path) is None
    note(tmp_path, HERE)
    assert find(tmp_path) == HERE
    note(tmp_path, None)
    assert find(tmp_path) is None


def test_a_new_owner_removes_the_address_of_a_killed_one(tmp_path: Path) -> None:
    with claimed(tmp_path):
        note(tmp_path, HERE)
    with claimed(tmp_path):
        assert find(tmp_path) is None


@pytest.mark.parametrize("text", ["", "[]", '{"url": 1}', "nonsense"])
def test_a_damaged_address_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / ADDRESS).write_text(text)
    with pytest.raises(StoreUnusable, match=ADDRESS):
        find(tmp_path)
