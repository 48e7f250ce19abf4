"""Passwords are made once, kept privately, and never shown in an error."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from deploy.nats.credentials import FILE, load, obtain, write_private
from deploy.nats.errors import StoreUnusable


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_made_once(tmp_path: Path) -> None:
    first = obtain(tmp_path, ("worker", "ingress"))
    assert obtain(tmp_path, ("worker", "ingress")) == first == load(tmp_path)
    assert [user for user, _ in first.values()] == ["worker", "ingress"]
    assert all(len(password) == 32 for _, password in first.values())
    assert first["worker"][1] != first["ingress"][1]


def test_a_new_role_joins_the_kept_ones(tmp_path: Path) -> None:
    old = obtain(tmp_path, ("worker",))
    new = obtain(tmp_path, ("worker", "ingress"))
    assert new["worker"] == old["worker"]
    assert load(tmp_path) == new


def test_readable_by_the_owner_alone(tmp_path: Path) -> None:
    obtain(tmp_path, ("worker",))
    assert _mode(tmp_path / FILE) == 0o600
    (tmp_path / FILE).chmod(0o644)
    obtain(tmp_path, ("worker",))
    assert _mode(tmp_path / FILE) == 0o600


@pytest.mark.parametrize(
    "text",
    [
        '{"worker": ["worker", "hunter2',
        '["hunter2"]',
        '{"worker": "hunter2"}',
        '{"worker": ["worker"]}',
        '{"worker": ["worker", 5]}',
        '{"worker": ["worker", ""]}',
        '{"worker": null}',
        "",
    ],
)
def test_a_damaged_file_is_named_and_not_shown(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(StoreUnusable, match="damaged") as caught:
        obtain(tmp_path, ("worker",))
    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__
    assert (tmp_path / FILE).read_text() == text


def test_nothing_kept(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="No such file"):
        load(tmp_path)


def test_a_left_over_draft_is_replaced(tmp_path: Path) -> None:
    (tmp_path / ".note.new").write_text("half")
    (tmp_path / "note").write_text("old")
    (tmp_path / "note").chmod(0o644)
    write_private(tmp_path / "note", json.dumps({"whole": True}))
    assert json.loads((tmp_path / "note").read_text()) == {"whole": True}
    assert _mode(tmp_path / "note") == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["note"]
