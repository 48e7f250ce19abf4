"""What is done to keys and accounts: the same for ``headrace key`` and for ``/admin/keys``."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from ingress.keys import secret as secrets
from ingress.keys.records import AccountRecord, KeyRecord, StoredSecret, checked, merged, revoked
from ingress.keys.store import KeyStore
from schemas import spans
from schemas.errors import InvalidRequest, KeyExists, NotFound
from schemas.keys import KeyPolicy
from schemas.settings.sections import SECRET_MIN

GRACE = 86_400.0
"""Seconds for which the secret before a rotation is still good."""
GRACE_MAX = 90 * 86_400.0
_SECRETS = 8
"""Most secrets that a key has at once: rotations within one another's grace."""


class Made(NamedTuple):
    """A key, and its new secret, which is told this once."""

    record: KeyRecord
    secret: str


async def create(
    store: KeyStore,
    name: str,
    policy: Mapping[str, Any],
    secret: str = "",
    taken: Collection[str] = (),
) -> Made:
    """A new key. `secret`: one that exists already; "": a new one. `taken`: names of keys that are
    not in the store. Raises KeyExists, InvalidRequest, Unavailable, BusError."""
    bare = check(name, policy, secret, taken)
    secret = secret or secrets.make()
    digest = secrets.digest(store.pepper, secret).hex()
    fresh = bare.model_copy(update={"secrets": (StoredSecret(digest=digest),)})

    def change(before: KeyRecord | None) -> KeyRecord:
        if before is not None and before.revoked is None:
            raise KeyExists(f"There is a key {name!r} already: choose another name.", param="name")
        return fresh

    return Made(await store.change_key(name, change), secret)


def check(
    name: str, policy: Mapping[str, Any], secret: str, taken: Collection[str] = ()
) -> KeyRecord:
    """The record of a key to be, as yet without its secret. Raises KeyExists, InvalidRequest."""
    if name in taken:
        raise KeyExists(f"The configuration has a key {name!r}: choose another name.", param="name")
    if secret:
        _check_secret(secret)
    now, found = time.time(), checked(KeyPolicy, _timed(policy))
    said = {"name": name, "policy": found, "secrets": (), "created": now, "changed": now}
    return checked(KeyRecord, said)


async def edit(store: KeyStore, name: str, changes: Mapping[str, Any]) -> KeyRecord:
    """Change fields of a key's policy; None: the default. Raises NotFound, InvalidRequest,
    Unavailable, BusError."""

    def change(before: KeyRecord | None) -> KeyRecord:
        record = _live(name, before)
        policy = checked(KeyPolicy, merged(record.policy, _timed(changes)))
        return record.model_copy(update={"policy": policy, "changed": time.time()})

    return await store.change_key(name, change)


async def rotate(store: KeyStore, name: str, grace: float = GRACE) -> Made:
    """A new secret for a key; those before are good for another `grace` seconds. Raises NotFound,
    InvalidRequest, Unavailable, BusError."""
    if not 0 <= grace <= GRACE_MAX:
        raise InvalidRequest(f"grace: it is 0 to {GRACE_MAX:g} seconds (90 days).", param="grace")
    secret, now = secrets.make(), time.time()
    fresh = StoredSecret(digest=secrets.digest(store.pepper, secret).hex())

    def change(before: KeyRecord | None) -> KeyRecord:
        record = _live(name, before)
        older = [_until(each, now + grace) for each in record.secrets]
        kept = [each for each in older if each.until is not None and each.until > now]
        secrets = (fresh, *kept[: _SECRETS - 1])
        return record.model_copy(update={"secrets": secrets, "changed": now})

    return Made(await store.change_key(name, change), secret)


async def revoke(store: KeyStore, name: str) -> KeyRecord:
    """The key is no more, though its record stays. Raises NotFound, Unavailable, BusError."""
    now = time.time()

    def change(before: KeyRecord | None) -> KeyRecord:
        return revoked(_live(name, before), now)

    return await store.change_key(name, change)


async def set_account(store: KeyStore, account: str, changes: Mapping[str, Any]) -> AccountRecord:
    """Change limits and weight of an account; None: the default. Raises InvalidRequest,
    Unavailable, BusError."""

    def change(before: AccountRecord | None) -> AccountRecord:
        base = before or checked(AccountRecord, {"account": account})
        return checked(AccountRecord, {**merged(base, changes), "account": account})

    change(None)  # before anything is asked
    return await store.change_account(account, change)


def span(text: str) -> float | None:
    """Seconds of ``30d``, ``12h``, ``0``; None if it is no span."""
    return spans.seconds(text if text[-1:].isalpha() else f"{text}s")


def grace_of(said: object) -> float:
    """Seconds of a number or a `span`. Raises InvalidRequest."""
    found = span(said) if isinstance(said, str) else said
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise InvalidRequest("grace: give seconds, or a span as 1d or 12h.", param="grace")
    return float(found)


def _timed(changes: Mapping[str, Any]) -> dict[str, Any]:
    """With `expires` also as a span from now, or "never"."""
    said = dict(changes)
    if not isinstance(text := said.get("expires"), str):
        return said
    if text == "never":
        said["expires"] = None
    elif (seconds := span(text)) is not None:
        said["expires"] = time.time() + seconds
    else:
        try:
            datetime.fromisoformat(text)
        except ValueError:
            why = f"{text!r} is neither 30d nor 2027-01-31T12:00:00Z nor never"
            raise InvalidRequest(f"expires: {why}.", param="expires") from None
    return said


def _live(name: str, record: KeyRecord | None) -> KeyRecord:
    if record is None or record.revoked is not None:
        raise NotFound(f"There is no key {name!r} in the store.", param="name")
    return record


def _until(secret: StoredSecret, moment: float) -> StoredSecret:
    until = moment if secret.until is None else min(secret.until, moment)
    return secret.model_copy(update={"until": until})


def _check_secret(secret: str) -> None:
    """Raises InvalidRequest, without the secret, for one that no client could send."""
    fit = secret.isascii() and secret.isprintable() and " " not in secret
    if len(secret) < SECRET_MIN or len(secret) > 512 or not fit:
        why = f"it needs {SECRET_MIN} to 512 printable ASCII characters without spaces"
        raise InvalidRequest(f"secret: {why}.", param="secret")
    if secrets.is_mistyped(secret):
        why = "it begins as keys that are made here do, and its last six characters do not fit"
        raise InvalidRequest(f"secret: {why}.", param="secret")
