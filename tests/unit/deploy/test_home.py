"""A user's data directory, and what may be wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy import home
from deploy.nats import store
from schemas.settings import SettingsError


def test_the_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    key = home.own_key(tmp_path / "data")
    assert home.own_key(tmp_path / "data") == key
    assert (tmp_path / "data" / home.KEY_FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"", b" \n", b"short", b"\xff"])
def test_a_file_without_a_key(content: bytes, tmp_path: Path) -> None:
    (tmp_path / home.KEY_FILE).write_bytes(content)
    with pytest.raises(SettingsError, match="key holds no key: delete it"):
        home.own_key(tmp_path)


def test_a_key_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / home.KEY_FILE).mkdir()
    with pytest.raises(SettingsError, match="key: Is a directory"):
        home.own_key(tmp_path)


def test_a_file_is_no_data_directory(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    for there in (path, path / "below"):
        with pytest.raises(SettingsError, match=r"cannot be the data directory: .* --data"):
            home.make(there)


def test_logins_that_cannot_be_read(tmp_path: Path) -> None:
    assert home.login(tmp_path, "admin") is None
    (home.broker_store(tmp_path) / store.ADDRESS).mkdir(parents=True)
    with pytest.raises(SettingsError, match="Is a directory"):
        home.login(tmp_path, "admin")


def test_the_consoles_key_is_another_that_is_found_where_it_was_made(tmp_path: Path) -> None:
    assert home.found_console_key(tmp_path) is None
    key = home.console_key(tmp_path)
    assert key != home.own_key(tmp_path)
    assert home.found_console_key(tmp_path) == key
    assert (tmp_path / home.CONSOLE_KEY_FILE).stat().st_mode & 0o777 == 0o600
