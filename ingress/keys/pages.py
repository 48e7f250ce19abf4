"""Keys and accounts as they are shown, by commands and over HTTP: never with a secret. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ingress.keys.records import AccountRecord, KeyRecord
from schemas.keys import KeyPolicy
from schemas.settings import Key

if TYPE_CHECKING:
    from ingress.http.auth import Principal

STORE, CONFIGURATION = "store", "configuration"
_UNITS = {
    "requests": "requests/min",
    "tokens": "tokens/min",
    "concurrent": "at once",
    "queued": "queued",
    "max_tokens": "tokens an answer",
    "monthly_tokens": "tokens a month",
    "monthly_credits": "credits a month",
}


def of_record(record: KeyRecord, now: float) -> dict[str, Any]:
    """`now`: Unix seconds. `secrets`: how many are good, with those that a rotation left."""
    good = [each for each in record.secrets if each.until is None or each.until > now]
    return {
        **_of(record.name, STORE, record.policy),
        "secrets": len(good),
        "created": record.created,
        "changed": record.changed,
        "revoked": record.revoked,
    }


def of_configured(key: Key) -> dict[str, Any]:
    gone = {"secrets": 1, "created": None, "changed": None, "revoked": None}
    return {**_of(key.name, CONFIGURATION, key.policy()), **gone}


def of_principal(who: Principal) -> dict[str, Any]:
    """Of a key, as its owner sees it: an operator's `note` is not there."""
    policy = who.policy.model_dump(exclude={"note"})
    account = {"limits": who.account_limits.model_dump(), "weight": who.account_weight}
    return {"object": "key", "name": who.key, **policy, "of_account": account}


def of_account(record: AccountRecord) -> dict[str, Any]:
    return {
        "object": "account",
        "account": record.account,
        "weight": record.weight,
        "limits": record.limits.model_dump(),
    }


def limits_text(limits: Mapping[str, Any]) -> str:
    """``60 requests/min, 2 at once``; "" without any."""
    return ", ".join(f"{limits[name]} {unit}" for name, unit in _UNITS.items() if limits[name])


def _of(name: str, source: str, policy: KeyPolicy) -> dict[str, Any]:
    return {"object": "key", "name": name, "source": source, **policy.model_dump()}
