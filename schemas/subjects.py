"""The only place that formats or parses a subject or a consumer's name.

A model id becomes one subject token that stays readable in monitoring tools: letters, digits,
``-`` and ``_`` stand for themselves, ``.`` is written ``,`` and ``:`` is written ``~`` (both are
common in model ids), every other UTF-8 byte is ``=XX``. The coding is reversible, so two ids never
share a subject.
"""

from __future__ import annotations

import hashlib
import re

JOBS_STREAM = "JOBS"
DEAD_STREAM = "DEAD"
GROUP = "headrace"
"""The one priority group of each consumer."""

INTERACTIVE = "i"
BATCH = "b"

INBOX_WORKER = "_W"
INBOX_INGRESS = "_I"
INBOX_ADMIN = "_A"

ALL_JOBS = "jobs.*.*"
ALL_DEAD = "dead.*"
ALL_CARDS = "hb.*"
DISCONNECTS = "$SYS.ACCOUNT.HEADRACE.DISCONNECT"
"""Imported from the system account: one event for each connection that ended."""

_PLAIN = re.compile(rb"[^A-Za-z0-9_-]")
_SHORT = {b".": b",", b":": b"~"}
_LONG = {after: before for before, after in _SHORT.items()}
_CODED = re.compile(rb"[,~]|=([0-9A-F]{2})")
_NAME_LIMIT = 160
"""A consumer's name becomes a directory of the broker's store: file systems allow 255 bytes."""


def encode(name: str) -> str:
    """`name` as one subject token. Raises ValueError for the empty string."""
    if not name:
        raise ValueError("an empty name cannot be a subject token")
    raw = name.encode("utf-8", "surrogatepass")
    return _PLAIN.sub(_escape, raw).decode("ascii")


def decode(token: str) -> str:
    """The name that `encode` made `token` of."""
    return _CODED.sub(_unescape, token.encode("ascii")).decode("utf-8", "surrogatepass")


def _escape(match: re.Match[bytes]) -> bytes:
    byte = match.group()
    return _SHORT.get(byte) or b"=%02X" % byte[0]


def _unescape(match: re.Match[bytes]) -> bytes:
    return _LONG.get(match.group()) or bytes([int(match.group(1), 16)])


def jobs(model: str, lane: str) -> str:
    return f"jobs.{encode(model)}.{lane}"


def parse_jobs(subject: str) -> tuple[str, str]:
    """(model, lane) of a job's subject."""
    _, token, lane = subject.split(".")
    return decode(token), lane


def consumer(model: str, lane: str) -> str:
    """The name of the durable consumer of one model and lane; long ids end in a digest."""
    token = encode(model)
    if len(token) > _NAME_LIMIT:
        digest = hashlib.sha256(token.encode()).hexdigest()[:16]
        token = f"{token[: _NAME_LIMIT - 18]}=x{digest}"  # no token has a lower-case letter after =
    return f"{token}-{lane}"


def frames(ingress: str, job: str) -> str:
    return f"r.{ingress}.{job}"


def body(ingress: str, job: str) -> str:
    """Where a holder asks for pieces of a body that travels by reference."""
    return f"b.{ingress}.{job}"


def job_of(subject: str) -> str:
    """The job id of a `frames` or `body` subject."""
    return subject[subject.rfind(".") + 1 :]


def control(holder: str) -> str:
    return f"c.{holder}"


def holder_of(subject: str) -> str:
    """The holder of a `control` subject."""
    return subject.removeprefix("c.")


def card(holder: str) -> str:
    return f"hb.{holder}"


def want(model: str) -> str:
    return f"fb.want.{encode(model)}"


def dead(model: str) -> str:
    return f"dead.{encode(model)}"


def attempt_of(ack: str) -> int:
    """The delivery count in an ack subject: the fencing number of the delivery.

    ``$JS.ACK.<stream>.<consumer>.<delivered>.…``, or with a domain and an account hash
    ``$JS.ACK.<domain>.<hash>.<stream>.<consumer>.<delivered>.…`` (NATS ADR-15).
    """
    tokens = ack.split(".")
    return int(tokens[4] if len(tokens) == 9 else tokens[6])
