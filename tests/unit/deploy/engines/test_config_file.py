"""A table is added to the file of settings, and nothing else in it changes."""

from __future__ import annotations

import fcntl
import os
import threading
import tomllib
from pathlib import Path

import pytest

from deploy import configure
from deploy.configure import CommandFailed
from deploy.engines import config_file
from deploy.engines.faults import BadInput
from schemas.settings import load

TABLE = {"name": "gpu", "kind": "llamacpp", "url": "http://127.0.0.1:8081", "models": ["a", "b"]}
WRITTEN = """\
[[engines]]
name = "gpu"
kind = "llamacpp"
url = "http://127.0.0.1:8081"
models = ["a", "b"]
"""
OLD = """\
# mine
[ingress]
port   = 8090 # as ever

[[engines]]
name = "one"
url = "http://127.0.0.1:1"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "headrace.toml"


def test_a_table_as_text() -> None:
    assert config_file.text(TABLE, ("4 slots",)) == f"# 4 slots\n{WRITTEN}"


def test_what_an_engine_says_stays_a_comment() -> None:
    evil = 'x"\n[[keys]]\nname = "evil"\x1b[2J'
    written = config_file.text(TABLE, (evil, "y" * 10_000))
    assert tomllib.loads(written) == {"engines": [TABLE]}
    assert "\x1b" not in written
    assert len(written) < 2000


def test_texts_of_every_kind_are_read_as_they_were() -> None:
    hard = {"name": 'a"b\\c\n\x7f\x01é', "env": {"A B": "x"}, "n": 3, "yes": True}
    assert tomllib.loads(config_file.text(hard))["engines"] == [hard]


def test_a_new_file_is_private(path: Path) -> None:
    config_file.append(path, WRITTEN)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text().endswith(f"\n\n{WRITTEN}")
    assert [engine.name for engine in load(path).engines] == ["gpu"]


def test_all_else_stays(path: Path) -> None:
    path.write_text(OLD)
    path.chmod(0o640)
    config_file.append(path, WRITTEN)
    assert path.read_text() == f"{OLD}\n{WRITTEN}"
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(path.parent) == [path.name]


def test_a_last_line_without_an_end(path: Path) -> None:
    path.write_text(OLD.rstrip("\n"))
    config_file.append(path, WRITTEN)
    assert path.read_text() == f"{OLD}\n{WRITTEN}"


def test_lines_that_end_as_elsewhere(path: Path) -> None:
    path.write_bytes(OLD.replace("\n", "\r\n").encode())
    config_file.append(path, WRITTEN)
    assert path.read_bytes() == f"{OLD}\n{WRITTEN}".replace("\n", "\r\n").encode()


def test_a_link_stays_one(path: Path, tmp_path: Path) -> None:
    true = tmp_path / "true.toml"
    true.write_text(OLD)
    path.symlink_to(true)
    config_file.append(path, WRITTEN)
    assert path.is_symlink()
    assert true.read_text() == f"{OLD}\n{WRITTEN}"


@pytest.mark.parametrize(
    ("before", "why"),
    [
        ("[ingress\n", "is no TOML, and is left so"),
        ('engines = [{name = "one", url = "http://127.0.0.1:1"}]\n', "in another form"),
        ("[ingress]\nprot = 1\n", "ingress.prot: unknown setting"),
        ('[[engines]]\nname = "gpu"\nurl = "http://127.0.0.1:1"\n', "2 engines have the name"),
    ],
)
def test_what_would_be_wrong_is_not_written(path: Path, before: str, why: str) -> None:
    path.write_text(before)
    with pytest.raises(BadInput, match=why):
        config_file.append(path, WRITTEN)
    assert path.read_text() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_wrong_table_is_not_written(path: Path) -> None:
    with pytest.raises(BadInput, match=r"engines\.0\.kind: there is no kind 'lama'"):
        config_file.append(path, WRITTEN.replace("llamacpp", "lama"))
    assert not path.exists()


def test_what_others_changed_meanwhile_is_left(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text(OLD)

    def checked(_: Path) -> None:
        path.write_text("# theirs\n")

    monkeypatch.setattr("deploy.engines.config_file.configure.checked", checked)
    with pytest.raises(CommandFailed, match="was changed meanwhile"):
        config_file.append(path, WRITTEN)
    assert path.read_text() == "# theirs\n"


def test_two_that_write_at_once_both_have_theirs(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is held between reading the file and writing it, until the second one waits."""
    checked, waits = configure.checked, threading.Event()
    second = threading.Thread(
        target=config_file.append, args=(path, WRITTEN.replace('"gpu"', '"other"'))
    )
    lock = fcntl.flock

    def locked(folder: int, how: int) -> None:
        if threading.current_thread() is second:
            waits.set()
        lock(folder, how)

    def slowly(draft: Path) -> None:
        if threading.current_thread() is not second:
            second.start()
            waits.wait()
        checked(draft)

    monkeypatch.setattr("deploy.engines.config_file.fcntl.flock", locked)
    monkeypatch.setattr("deploy.engines.config_file.configure.checked", slowly)
    config_file.append(path, WRITTEN)
    second.join()
    assert [engine.name for engine in load(path).engines] == ["gpu", "other"]


def test_a_link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)
    with pytest.raises(BadInput, match="Too many levels of symbolic links"):
        config_file.append(path, WRITTEN)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="cannot be written: No such file"):
        config_file.append(tmp_path / "nowhere" / "headrace.toml", WRITTEN)
