"""What ingresses tell each other of requests: `subjects.ASK_REQUESTS` asks all of them. Pure.

A row is a JSON object, the same that clients get (``GET /v1/requests``). It has no text of any
prompt or answer.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from schemas import bounds
from schemas.jobs import CodecError

MOST_ROWS = 500
"""Rows of one kind in one answer, which is then well below what the broker takes."""
_INGRESSES = 256
"""Ingresses of which one cursor says how far it has come."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """`account`: only its requests; empty: those of all. `after`: by ingress, the number of the
    last ended request that is known already. `most`: rows of each kind from each ingress. `cancel`:
    the job of a request that is to end; then nothing is told of others. `ingress`: who asks.
    `leaves`: it only says that it ends."""

    account: str = ""
    after: Mapping[str, int] = field(default_factory=dict)
    most: int = MOST_ROWS
    cancel: str = ""
    ingress: str = ""
    leaves: bool = False

    def pack(self) -> bytes:
        return orjson.dumps(self)


@dataclass(frozen=True, slots=True)
class Told:
    """What one `ingress` answers. `last`: the number of its last request that ended. `ended`: those
    behind what was known, the newest at the end. `live`: those that wait or run. `cancelled`:
    whether it has ended the request that was to end."""

    ingress: str
    last: int = 0
    ended: tuple[Row, ...] = ()
    live: tuple[Row, ...] = ()
    cancelled: bool = False

    def pack(self) -> bytes:
        return orjson.dumps(self)


def question(data: bytes) -> Question:
    """Raises CodecError."""
    try:
        found = orjson.loads(data)
        account, after, ingress = found["account"], found["after"], found.get("ingress", "")
        leaves = found.get("leaves") is True
        asked = Question(account, after, found["most"], found["cancel"], ingress, leaves)
    except (orjson.JSONDecodeError, LookupError, TypeError) as fault:
        raise CodecError(f"not a question about requests: {fault}") from None
    texts = bounds.are_texts((asked.account, asked.cancel, asked.ingress), bounds.NAME)
    if not texts or not _is_cursor(asked.after) or not bounds.is_number(asked.most, MOST_ROWS):
        raise CodecError("a field of a question about requests is out of bounds")
    return asked


def told(data: bytes) -> Told:
    """Raises CodecError."""
    try:
        found = orjson.loads(data)
        rows = [[dict(row) for row in found[kind][: MOST_ROWS * 2]] for kind in ("ended", "live")]
        ended, live = map(tuple, rows)
        said = Told(found["ingress"], found["last"], ended, live, found["cancelled"] is True)
    except (orjson.JSONDecodeError, LookupError, TypeError, ValueError) as fault:
        raise CodecError(f"not an answer about requests: {fault}") from None
    if not bounds.is_token(said.ingress, bounds.NAME) or not bounds.is_number(said.last):
        raise CodecError("a field of an answer about requests is out of bounds")
    return said


def cursor(after: Mapping[str, int]) -> str:
    """How far somebody has come, as one word."""
    return base64.urlsafe_b64encode(orjson.dumps(dict(after))).decode().rstrip("=")


def read_cursor(word: str) -> dict[str, int]:
    """Raises CodecError."""
    try:
        found = orjson.loads(base64.urlsafe_b64decode(word + "=" * (-len(word) % 4)))
    except (binascii.Error, ValueError):
        raise CodecError("no cursor that was given here") from None
    if not _is_cursor(found):
        raise CodecError("no cursor that was given here")
    after: dict[str, int] = found
    return after


def _is_cursor(after: Any) -> bool:
    if type(after) is not dict or len(after) > _INGRESSES:
        return False
    return all(bounds.is_token(name, bounds.NAME) for name in after) and all(
        bounds.is_number(number) for number in after.values()
    )
