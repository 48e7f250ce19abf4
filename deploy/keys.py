"""``headrace key``: the store of keys, for people and for programs. It is written at the broker, so
no ingress needs to run."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

import orjson
from pydantic import ValidationError

from deploy import configure, home, key_import
from deploy.configure import CommandFailed, Unreachable, Where
from deploy.status import console, stamp, table
from deploy.survey import connected
from ingress.keys import changes, pages
from ingress.keys.changes import Made
from ingress.keys.pages import limits_text
from ingress.keys.store import KeyStore
from schemas import subjects
from schemas.bus import BusError, NotFound
from schemas.errors import HeadraceError
from schemas.settings import Key, Nats


class NoStore(CommandFailed):
    """The account of this login has no store of keys."""


def login(where: Where) -> Nats:
    """The login for the account with the keys: --nats, else the settings, else that of the broker
    that runs on this machine. Raises SettingsError, Unreachable, CommandFailed."""
    settings = where.settings()
    if where.nats:
        return settings.nats
    if settings.vault.given:
        return settings.vault.beside(settings.nats)
    if "url" in settings.nats.model_fields_set:
        raise CommandFailed(
            "no login for the account with the keys: name one in the section [vault], or as --nats "
            "(the one that 'headrace up' made is 'keys')"
        )
    where.local("admin")  # says so if nothing runs
    try:
        return where.local("keys")
    except Unreachable:
        why = "is of a release without a store of keys: stop it, and start 'headrace up' again"
        raise Unreachable(f"the broker that runs on {where.data} {why}") from None


@contextlib.asynccontextmanager
async def opened(where: Where, *, founds: bool = True) -> AsyncIterator[KeyStore]:
    """The store. `founds`: make it if there is none; not so with a login of --nats, as that may be
    one of another account, where no ingress reads it. Raises NoStore, and CommandFailed for
    whatever is wrong with what is asked of it."""
    found = login(where)
    try:
        async with connected(found, "headrace-key", subjects.INBOX_KEYS) as bus:
            store = KeyStore(bus, found.replicas)
            await store.open(found=founds and not where.nats)
            yield store
    except NotFound:
        why = "the first ingress with that login makes it (the one of 'headrace up' is 'keys')"
        raise NoStore(f"there is no store of keys at {found.shown} for this login: {why}") from None
    except HeadraceError as fault:
        raise CommandFailed(fault.message) from None
    except ValidationError:
        # `from None`: the exception has the text that could not be read.
        raise CommandFailed("the store has a record of another release: use that one") from None
    except BusError as fault:
        raise CommandFailed(f"the store of keys cannot be asked: {fault}") from None


def configured(where: Where) -> list[Key]:
    """Keys that are not in the store: those of the configuration, and that of `headrace up`."""
    settings = where.settings()
    if (where.data / home.KEY_FILE).is_file():
        settings = configure.with_own_keys(settings, where.data)
    return settings.keys


async def create(where: Where, name: str, policy: Mapping[str, Any], as_json: bool) -> None:
    async with opened(where) as store:
        taken = [key.name for key in configured(where)]
        _tell_secret(await changes.create(store, name, policy, taken=taken), as_json)


async def rotate(where: Where, name: str, grace: str, as_json: bool) -> None:
    _check_kept(where, name)
    async with opened(where) as store:
        _tell_secret(await changes.rotate(store, name, changes.grace_of(grace)), as_json)


async def edit(where: Where, name: str, policy: Mapping[str, Any], as_json: bool) -> None:
    _check_kept(where, name)
    if not policy:
        raise CommandFailed("nothing is to be changed: see 'headrace key edit --help'")
    async with opened(where) as store:
        _tell(pages.of_record(await changes.edit(store, name, policy), time.time()), as_json)


async def revoke(where: Where, name: str, as_json: bool) -> None:
    _check_kept(where, name)
    async with opened(where) as store:
        page = pages.of_record(await changes.revoke(store, name), time.time())
    print(_dumped(page)) if as_json else print(f"{name}: revoked")


async def show(where: Where, name: str, as_json: bool) -> None:
    for key in configured(where):
        if key.name == name:
            return _tell(pages.of_configured(key), as_json)
    async with opened(where) as store:
        record = await store.key(name)
    if record is None:
        raise CommandFailed(f"there is no key {name!r}: see 'headrace key list'")
    return _tell(pages.of_record(record, time.time()), as_json)


async def show_all(where: Where, gone: bool, as_json: bool) -> None:
    """`gone`: also those that were revoked."""
    async with opened(where) as store:
        kept = [each for each in await store.keys() if gone or each.revoked is None]
    found = [pages.of_configured(key) for key in configured(where)]
    found += [pages.of_record(each, time.time()) for each in kept]
    if as_json:
        print(_dumped(found))
        return
    columns = ("name", "account", "where", "scopes", "models", "limits", "expires", "note")
    console().print(table(columns, map(_row, found)))


async def account(where: Where, name: str, said: Mapping[str, Any], as_json: bool) -> None:
    """Change limits and weight of an account; without changes, show it; without a name, all."""
    async with opened(where) as store:
        if name and said:
            found = [await changes.set_account(store, name, said)]
        else:
            found = [each for each in await store.accounts() if name in ("", each.account)]
    shown = [pages.of_account(each) for each in found]
    if as_json:
        print(_dumped(shown))
        return
    rows = ((each["account"], each["weight"] or "", limits_text(each["limits"])) for each in shown)
    console().print(table(("account", ">weight", "limits"), rows))


async def load(where: Where, file: Path | None) -> None:
    """Take the keys of a file, or of stdin: all of them, or none if any row is wrong."""
    with contextlib.ExitStack() as stack:
        source: TextIO = sys.stdin
        if file is not None:
            source = stack.enter_context(file.open(newline=""))
        rows = key_import.read(source)
    async with opened(where) as store:
        added, known = await key_import.store(store, rows, [key.name for key in configured(where)])
    print(f"{added} keys taken in, {known} were there already")


def _check_kept(where: Where, name: str) -> None:
    if any(key.name == name for key in configured(where)):
        why = "change it there, and send SIGHUP to the ingresses"
        raise CommandFailed(f"the key {name!r} is in the configuration: {why}")


def _tell_secret(made: Made, as_json: bool) -> None:
    """The secret alone goes to stdout, so that it can be taken from there."""
    page = pages.of_record(made.record, time.time())
    if as_json:
        print(_dumped({**page, "secret": made.secret}))
        return
    print(f"key {page['name']!r} of the account {page['account']!r}: keep the secret, as it is "
          "shown this once", file=sys.stderr)  # fmt: skip
    print(made.secret)


def _tell(page: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print(_dumped(page))
        return
    shown = {**page, "limits": limits_text(page["limits"])}
    for moment in ("expires", "created", "changed", "revoked"):
        shown[moment] = stamp(shown[moment]) if shown[moment] else ""
    rows = ((name, _text(value)) for name, value in shown.items() if name != "object")
    console().print(table(("field", "value"), rows))


def _row(page: Mapping[str, Any]) -> Iterable[str]:
    expires = stamp(page["expires"]) if page["expires"] else ""
    state = "revoked" if page["revoked"] else page["source"]
    parts = (page["name"], page["account"], state, _text(page["scopes"]), _text(page["models"]))
    return (*parts, limits_text(page["limits"]), expires, page["note"])


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _dumped(document: Any) -> str:
    return orjson.dumps(document).decode()
