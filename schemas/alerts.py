"""Budgets that run out, and the alerts that say so: of prepaid credits, and of what a key or an
account may use in a month. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from schemas.jobs import CodecError

CREDITS = "credits"
"""The budget of an account's prepaid credits. Others have the names of their limits."""
TOKENS, MICRO = "tokens", "micro"
"""Units: `MICRO` are millionths of the currency."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What is `used` `of` a budget, both in its `unit`. `key`: "" if the whole account has it.
    `period`: what it begins anew with, such as a month ``2026-11``."""

    name: str
    account: str
    key: str
    period: str
    used: int
    of: int
    unit: str

    @property
    def share(self) -> float:
        """How much is used, in percent."""
        return 100 * self.used / self.of if self.of > 0 else 100.0


@dataclass(frozen=True, slots=True)
class Alert:
    """`threshold` (percent) of a budget was reached at `at` (Unix seconds)."""

    budget: Budget
    threshold: int
    at: float

    @property
    def id(self) -> str:
        """The same for all alerts of one threshold and period, whoever noticed it."""
        budget = self.budget
        about = [budget.name, budget.account, budget.key, budget.period, self.threshold]
        return hashlib.sha256(orjson.dumps(about)).hexdigest()[:32]

    def pack(self) -> bytes:
        return orjson.dumps(asdict(self))


_TYPES = {"threshold": int, "at": float}
_OF_BUDGET = {
    **dict.fromkeys(("name", "account", "key", "period", "unit"), str),
    **dict.fromkeys(("used", "of"), int),
}


def unpack(data: bytes) -> Alert:
    """Raises CodecError. Fields that later releases add are passed over."""
    try:
        said = orjson.loads(data)
        return Alert(Budget(**_fields(said["budget"], _OF_BUDGET)), **_fields(said, _TYPES))
    except (ValueError, TypeError, LookupError) as fault:
        raise CodecError(f"not an alert: {fault}") from None


def _fields(said: Any, types: dict[str, type]) -> dict[str, Any]:
    """Raises TypeError, LookupError."""
    found = {name: said[name] for name in types}
    if any(type(found[name]) is not kind for name, kind in types.items()):
        raise TypeError("a field has the wrong type")
    return found
