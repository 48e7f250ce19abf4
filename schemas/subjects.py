"""The only place that formats or parses subjects and names of consumers.

A model id becomes one subject token that stays readable in monitoring tools: letters, digits,
``-`` and ``_`` stay, ``.`` becomes ``,`` and ``:`` becomes ``~`` (both are common in model ids),
every other UTF-8 byte becomes ``=XX``. The coding is reversible, so two ids never share a subject.
"""

from __future__ import annotations

import hashlib
import re

from schemas.jobs import VERSION

JOBS_STREAM = "JOBS"
DEAD_STREAM = "DEAD"
USAGE_STREAM = "USAGE"
CREDITS_STREAM = "CREDITS"
MARK_STREAM = "MARK"
CREDITS_MARK = "mark.credits"
"""How far the journal of credits has come."""
ANSWERS_STREAM = "ANSWERS"
GROUP = "headrace"
"""The only priority group of each consumer."""

INTERACTIVE = "i"
BATCH = "b"
CLOUD = "f"
"""The lane of jobs for providers only; only fallbacks pull from it."""

INBOX_WORKER = "_W"
INBOX_INGRESS = "_I"
INBOX_FALLBACK = "_F"
INBOX_LEDGER = "_L"
INBOX_ADMIN = "_A"

ALL_JOBS = "jobs.*.*"
ALL_DEAD = "dead.*"
ALL_USAGE = "usage.*"
ALL_ANSWERS = "answers.*"
ALL_CARDS = "hb.*"
ALL_CREDITS = "credits.*"
ALL_WANTS = "fb.want.*"
ASK_LEDGER = "fb.ledger"
"""Questions of the ingress about credits; a fallback answers."""
DISCONNECTS = "$SYS.ACCOUNT.HEADRACE.DISCONNECT"
"""Imported from the system account; it brings one event for each connection that ended."""

_PLAIN = re.compile(rb"[^A-Za-z0-9_-]")
_SHORT = {b".": b",", b":": b"~"}
_LONG = {after: before for before, after in _SHORT.items()}
_CODED = re.compile(rb"[,~]|=([0-9A-F]{2})")
_NAME_LIMIT = 160
"""A consumer's name becomes a directory in the broker's store, and names have 255 bytes at most."""


def encode(name: str) -> str:
    """`name` as one subject token. Raises ValueError for the empty string."""
    if not name:
        raise ValueError("an empty name cannot be a subject token")
    raw = name.encode("utf-8", "surrogatepass")
    return _PLAIN.sub(_escape, raw).decode("ascii")


def decode(token: str) -> str:
    """The name that `encode` turned into `token`."""
    return _CODED.sub(_unescape, token.encode("ascii")).decode("utf-8", "surrogatepass")


def _escape(match: re.Match[bytes]) -> bytes:
    byte = match.group()
    return _SHORT.get(byte) or b"=%02X" % byte[0]


def _unescape(match: re.Match[bytes]) -> bytes:
    return _LONG.get(match.group()) or bytes([int(match.group(1), 16)])


def jobs(model: str, lane: str) -> str:
    """The lane names the protocol's version, so each version has its own consumers. Workers of
    version 1 delete jobs that they cannot read, so they must not get jobs of other versions."""
    return f"jobs.{encode(model)}.{lane}{VERSION}"


def parse_jobs(subject: str) -> tuple[str, str]:
    """(model, lane) of a job's subject; the lane says if it is of another version."""
    _, token, lane = subject.split(".")
    ours = lane.removesuffix(str(VERSION))
    return decode(token), ours if ours != lane else f"{lane} of another version"


def consumer(model: str, lane: str) -> str:
    """The name of the durable consumer of one model and lane. A long id ends in a digest."""
    token = encode(model)
    # The digest keeps apart the names of two ids that begin alike.
    if len(token) > _NAME_LIMIT:
        digest = hashlib.sha256(token.encode()).hexdigest()[:16]
        token = f"{token[: _NAME_LIMIT - 18]}=x{digest}"  # no token has a lower-case letter after =
    return f"{token}-{lane}{VERSION}"


def frames(ingress: str, job: str) -> str:
    return f"r.{ingress}.{job}"


def answer(ingress: str, job: str, edition: int) -> str:
    """Where the broker confirms one publish of a job. The edition tells several publishes apart,
    if a job is hedged, moved or lost. A subscription to the `frames` of all jobs gets it, too."""
    return f"r.{ingress}.{job}-{edition}"


def answered(subject: str) -> tuple[str, int]:
    """(job, edition) of an `answer` subject. Raises ValueError for any other subject."""
    job, _, edition = job_of(subject).partition("-")
    return job, int(edition)


def body(ingress: str, job: str) -> str:
    """Where a holder asks for pieces of a body that the job does not contain."""
    return f"b.{ingress}.{job}"


def job_of(subject: str) -> str:
    """The job id of a `frames` or `body` subject."""
    return subject[subject.rfind(".") + 1 :]


def ingress_of(subject: str) -> str:
    """The ingress of a `frames` subject."""
    return subject[2 : subject.rfind(".")]  # behind "r."


def control(holder: str) -> str:
    return f"c.{holder}"


def holder_of(subject: str) -> str:
    """The holder of a `control` subject."""
    return subject.removeprefix("c.")


def card(holder: str) -> str:
    return f"hb.{holder}"


def want(model: str) -> str:
    return f"fb.want.{encode(model)}"


def wanted(subject: str) -> str:
    """The model of a `want` subject."""
    return decode(subject.rpartition(".")[2])


def dead(model: str) -> str:
    return f"dead.{encode(model)}"


def answer_to(name: str) -> str:
    """Where the answer to a request with an idempotency key is kept. `name`: one token."""
    return f"answers.{name}"


def usage(ingress: str, window: int) -> str:
    return f"usage.{ingress}-{window}"


def _delivery(ack: str) -> list[str]:
    """Stream, consumer, delivery count, stream sequence, consumer sequence, nanoseconds of the
    epoch, and number of messages to come (NATS ADR-15). They follow ``$JS.ACK``, or
    ``$JS.ACK.<domain>.<account's hash>``; the longer form has one more token at the end."""
    tokens = ack.split(".")
    return tokens[2:] if len(tokens) == 9 else tokens[4:]


def turn_of(ack: str) -> tuple[int, int]:
    """(stream sequence, delivery count) of a delivery. The delivery count fences off earlier
    holders. Raises ValueError or IndexError."""
    found = _delivery(ack)
    return int(found[3]), int(found[2])


def place_of(ack: str) -> tuple[int, int]:
    """(stream sequence, nanoseconds of the epoch) of a delivery. Raises ValueError, IndexError."""
    found = _delivery(ack)
    return int(found[3]), int(found[5])


def is_ack(subject: str) -> bool:
    """Whether `subject` is the ack subject of a job's delivery."""
    return subject.startswith("$JS.ACK.") and _delivery(subject)[:1] == [JOBS_STREAM]


def is_inbox(subject: str) -> bool:
    """Whether `subject` is an inbox of a worker or a fallback."""
    return subject.startswith((f"{INBOX_WORKER}.", f"{INBOX_FALLBACK}."))


def credits(account: str) -> str:
    """The counter of one account, in the stream `CREDITS_STREAM`."""
    return f"credits.{encode(account)}"


def account_of(subject: str) -> str:
    """The account of a `credits` subject."""
    return decode(subject.partition(".")[2])
