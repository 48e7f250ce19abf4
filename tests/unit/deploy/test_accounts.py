"""Which accounts a grant may go to without a question."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from deploy import accounts, home
from deploy.accounts import NoSuchAccount
from deploy.configure import CommandFailed, Where
from ingress.keys.records import AccountRecord, KeyRecord
from schemas.keys import KeyPolicy


class Store:
    """Two keys, one of which is revoked, and the record of an account."""

    async def account(self, account: str) -> AccountRecord | None:
        return AccountRecord(account="recorded") if account == "recorded" else None

    async def keys(self) -> list[KeyRecord]:
        some: Any = {"secrets": (), "created": 1.0, "changed": 1.0}
        live = KeyRecord(name="a", policy=KeyPolicy(account="live"), **some)
        gone = KeyRecord(name="b", policy=KeyPolicy(account="gone"), revoked=2.0, **some)
        return [live, gone]


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Where:
    path = tmp_path / "headrace.toml"
    secret = "sk-0123456789abcdef"
    path.write_text(f'[[keys]]\nname = "k"\naccount = "written"\nsecret = "{secret}"\n')

    @asynccontextmanager
    async def opened(asked: Where, *, founds: bool) -> AsyncIterator[Store]:
        assert (asked.nats, founds) == (None, False)
        yield Store()

    monkeypatch.setattr("deploy.keys.opened", opened)
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    return Where(tmp_path, path, "nats://ledger:x@127.0.0.1:1")


@pytest.mark.parametrize("account", ["written", "live", "recorded"])
async def test_an_account_of_a_key_is_known(where: Where, account: str) -> None:
    await accounts.check(where, account)


@pytest.mark.parametrize("account", ["typo", "gone", "local"])
async def test_another_is_not(where: Where, account: str) -> None:
    with pytest.raises(NoSuchAccount, match="--create"):
        await accounts.check(where, account)


async def test_the_key_of_up_has_an_account(where: Where) -> None:
    (where.data / home.KEY_FILE).touch()
    await accounts.check(where, "local")


@pytest.mark.parametrize("said", [True, False])
async def test_on_a_terminal_it_asks(
    where: Where, monkeypatch: pytest.MonkeyPatch, said: bool
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    asked: list[str] = []

    def confirm(text: str, **_: object) -> bool:
        asked.append(text)
        return said

    monkeypatch.setattr("typer.confirm", confirm)
    if said:
        await accounts.check(where, "typo")
    else:
        with pytest.raises(NoSuchAccount, match="nothing was granted"):
            await accounts.check(where, "typo")
    assert asked == ["No key that is known here has the account 'typo'. Grant it all the same?"]


async def test_a_store_that_cannot_be_asked_has_none(
    where: Where, monkeypatch: pytest.MonkeyPatch
) -> None:
    @asynccontextmanager
    async def opened(*_: object, **__: object) -> AsyncIterator[Store]:
        raise CommandFailed("away")
        yield Store()

    monkeypatch.setattr("deploy.keys.opened", opened)
    with pytest.raises(NoSuchAccount):
        await accounts.check(where, "live")
