"""Which accounts there are, as far as keys tell: a grant to a mistyped one would be lost money."""

from __future__ import annotations

import sys
from contextlib import suppress

import typer

from deploy import home, keys
from deploy.configure import OWN_ACCOUNT, CommandFailed, Where
from schemas.settings import SettingsError


class NoSuchAccount(CommandFailed):
    """No key has the account; the message says what to do."""


async def check(where: Where, account: str) -> None:
    """Ask on a terminal whether an account that no key has is meant. Raises NoSuchAccount."""
    if await _has_key(where, account):
        return
    why = f"no key that is known here has the account {account!r}"
    if not sys.stdin.isatty():
        raise NoSuchAccount(f"{why}: mend the name, or say --create")
    if not typer.confirm(f"{why[0].upper()}{why[1:]}. Grant it all the same?", err=True):
        raise NoSuchAccount("nothing was granted")


async def _has_key(where: Where, account: str) -> bool:
    if any(key.account == account for key in where.settings().keys):
        return True
    if account == OWN_ACCOUNT and (where.data / home.KEY_FILE).is_file():
        return True
    return await _in_store(where, account)


async def _in_store(where: Where, account: str) -> bool:
    """Whether the store of keys has it. A store that cannot be asked has none."""
    # --nats names the login for the journal of credits, which has no keys.
    with suppress(CommandFailed, SettingsError):
        async with keys.opened(Where(where.data, where.config), founds=False) as store:
            known = await store.account(account) is not None
            return known or any(
                key.policy.account == account and key.revoked is None for key in await store.keys()
            )
    return False
