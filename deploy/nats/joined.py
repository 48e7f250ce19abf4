"""Logins of nodes that joined, as a file of the store: so that they can come back as soon as the
broker runs again, before anybody has read the records of nodes. It has public keys alone."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import structlog

from deploy.nats.credentials import write_private
from deploy.nats.rights import Account, Grant, Login
from schemas import nkeys

log = structlog.get_logger("broker")

FILE = "joined.json"
_ACCOUNTS = {each.value: each for each in Account if each not in (Account.HEADRACE, Account.SYS)}
"""Where nodes and those who are invited may log in."""


def keep(store: Path, logins: Iterable[Login]) -> None:
    write_private(store / FILE, json.dumps([asdict(login) for login in logins], indent=1) + "\n")


def load(store: Path) -> tuple[Login, ...]:
    """None where there is no such file, or one that cannot be read: the records say it all."""
    try:
        return tuple(_login(**each) for each in json.loads((store / FILE).read_text()))
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as fault:
        log.warning("broker.joined_unreadable", error=type(fault).__name__)
        return ()


def _login(account: str, known: dict[str, str], grant: dict[str, list[str]] | None) -> Login:
    # None has no limits, which no node has.
    rights = Grant(*map(tuple, ((grant or {})["publish"], (grant or {})["subscribe"])))
    # The broker would not even start with a key or a subject that is none.
    if not nkeys.is_public(known["nkey"]) or not all(
        map(_is_subject, rights.publish + rights.subscribe)
    ):
        raise ValueError
    return Login(_ACCOUNTS[account], {"nkey": known["nkey"]}, rights)


def _is_subject(text: str) -> bool:
    tokens = text.split(".")
    return text.isascii() and text.isprintable() and " " not in text and all(tokens)
