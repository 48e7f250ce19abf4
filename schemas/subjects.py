"""The only place that formats or parses subjects and names of consumers.

A model id becomes one subject token that stays readable in monitoring tools: letters, digits,
``-`` and ``_`` stay, ``.`` becomes ``,`` and ``:`` becomes ``~`` (both are common in model ids),
every other UTF-8 byte becomes ``=XX``. The coding is reversible, so two ids never share a subject.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

from schemas import bounds
from schemas.jobs import VERSION

JOBS_STREAM = "JOBS"
DEAD_STREAM = "DEAD"
USAGE_STREAM = "USAGE"
CREDITS_STREAM = "CREDITS"
MARK_STREAM = "MARK"
CREDITS_MARK = "mark.credits"
"""How far the journal of credits has come."""
ANSWERS_STREAM = "ANSWERS"
CACHE_STREAM = "CACHE"
ALERTS_STREAM = "ALERTS"
WEBHOOK = "webhook"
"""The consumer of alerts that are sent on."""
KEYS_STREAM = "KEYS"
LIMITS_STREAM = "LIMITS"
NODES_STREAM = "NODES"
GROUP = "headrace"
"""The only priority group of each consumer."""

INTERACTIVE = "i"
BATCH = "b"
"""The lane of jobs that are taken when no interactive job of their model waits."""
CLOUD = "f"
"""The lane of jobs for providers only; only fallbacks pull from it."""
LANES = {INTERACTIVE: "interactive", BATCH: "batch", CLOUD: "providers"}
"""What people are told of the lanes; of those of nodes see `lane_name`."""
_NODE = "n-"
"""The lanes of jobs that are for one node alone begin so; its token follows."""
PINNED = "pinned"
"""What all of these are called together."""

INBOX_WORKER = "_W"
INBOX_INGRESS = "_I"
INBOX_FALLBACK = "_F"
INBOX_LEDGER = "_L"
INBOX_KEYS = "_K"
INBOX_ADMIN = "_A"
INBOX_MONITOR = "_M"
INBOX_HUB = "_H"
INBOX_JOIN = "_J"

ALL_JOBS = "jobs.*.*.*"
EARLIER_JOBS = "jobs.*.*"
"""Jobs of versions 1 to 3, which named no tenant."""
EVERY_JOB = "jobs.>"
ALL_STANDINGS = "fq.*.*"
ALL_SLOTS = "fw.*"
CACHES = "fc"
"""Where ingresses tell which engines have which prompts in their caches."""
ALL_DEAD = "dead.*"
ALL_USAGE = "usage.*"
ALL_ANSWERS = "answers.*"
ALL_KEPT = "kept.*"
ALL_ALERTS = "alerts.*"
ALL_CARDS = "hb.*.*"
ALL_CONTROLS = "c.*.*"
ALL_FRAMES = "r.*.*.*"
ALL_BODIES = "b.*.*.*"
ALL_NODES = "nodes.*"
ALL_INVITES = "invites.*"
CHANGES = "changed"
"""What a record's subject begins with as the broker repeats it to those who follow."""
ALL_CHANGES = f"{CHANGES}.*.*"
ALL_JOINS = "join.*"
ALL_ROTATIONS = "hub.rotate.*"
ASK_APPLIED = "hub.applied"
"""Whether the hub has put the records of nodes in force: a question of `headrace node`."""
ALL_NODE_CHANGES = "hub.console.*"
"""What the console has the hub do to nodes: `node_change` by its verb."""
ALL_CREDITS = "credits.*"
ALL_KEYS = "keys.*"
ALL_ACCOUNTS = "accounts.*"
PEPPER = "pepper"
"""What the hashes of keys are made with."""
ALL_LIMITS = "limits.*"
LIMITS_CLOCK = "limits.clock"
"""By how much the clock that limits go by is ahead of the broker's."""
ALL_WANTS = "fb.want.*"
ASK_LEDGER = "fb.ledger"
"""Questions of the ingress about credits; a fallback answers."""
ASK_GRANT = "fb.grant"
"""Grants of credits over HTTP. It is a service of the account with the credits, for that with the
keys: whoever may write keys may make one that is an admin's."""
ASK_QUEUES = "in.queues"
"""Who waits: a question to all ingresses, each of which answers for its own jobs."""
ASK_REQUESTS = "in.requests"
"""Which requests run and have ended: a question of one ingress to all."""
DISCONNECTS = "$SYS.ACCOUNT.MEMBERS.DISCONNECT"
"""Imported from the system account; it brings one event for each connection of a member that
ended."""

_PLAIN = re.compile(rb"[^A-Za-z0-9_-]")
_SHORT = {b".": b",", b":": b"~"}
_LONG = {after: before for before, after in _SHORT.items()}
_CODED = re.compile(rb"[,~]|=([0-9A-F]{2})")
_NAME_LIMIT = 160
_LANE_LIMIT = 80
"""A consumer's name becomes a directory in the broker's store, and names have 255 bytes at most."""


@lru_cache(4096)
def encode(name: str) -> str:
    """`name` as one subject token. Raises ValueError for the empty string."""
    if not name:
        raise ValueError("an empty name cannot be a subject token")
    raw = name.encode("utf-8", "surrogatepass")
    return _PLAIN.sub(_escape, raw).decode("ascii")


def is_model(name: str) -> bool:
    """Whether a model can be served by this name: a longer one would be no subject any more."""
    return name != "" and len(name) <= bounds.MODEL and len(encode(name)) <= bounds.MODEL_TOKEN


def decode(token: str) -> str:
    """The name that `encode` turned into `token`."""
    return _CODED.sub(_unescape, token.encode("ascii")).decode("utf-8", "surrogatepass")


def _escape(match: re.Match[bytes]) -> bytes:
    byte = match.group()
    return _SHORT.get(byte) or b"=%02X" % byte[0]


def _unescape(match: re.Match[bytes]) -> bytes:
    return _LONG.get(match.group()) or bytes([int(match.group(1), 16)])


def jobs(model: str, lane: str, tenant: str) -> str:
    """`tenant`: whose share of the queue the job has, an account. The lane names the protocol's
    version, so each version has its own consumers. Workers of version 1 delete jobs that they
    cannot read, so they must not get jobs of other versions."""
    return f"{_lane(model, lane)}.{encode(tenant)}"


def all_jobs(model: str, lane: str) -> str:
    """The jobs of all tenants: what one consumer gives out."""
    return f"{_lane(model, lane)}.*"


def _lane(model: str, lane: str) -> str:
    return f"jobs.{encode(model)}.{lane}{VERSION}"


def pinned(node: str) -> str:
    """The lane of jobs that are for `node` alone."""
    return f"{_NODE}{encode(node)}"


def node_of(lane: str) -> str:
    """The node of a `pinned` lane; "" for other lanes."""
    return decode(lane.removeprefix(_NODE)) if lane.startswith(_NODE) else ""


def is_pinned(lane: str) -> bool:
    return lane.startswith(_NODE)


def is_for(lane: str, node: str) -> bool:
    """Whether a worker of `node` may have jobs of the lane."""
    return not lane.startswith(_NODE) or node_of(lane) == node


def lane_name(lane: str) -> str:
    """What people are told of a lane."""
    node = node_of(lane)
    return f"pinned to {node}" if node else LANES.get(lane, lane)


def lane_kind(lane: str) -> str:
    """The same without names of nodes: of such words metrics have few."""
    return PINNED if is_pinned(lane) else LANES.get(lane, lane)


def of_all_tenants(subject: str) -> str:
    """The pattern of all tenants' jobs that a job's `subject` belongs to; one of an earlier version
    is its own."""
    return f"{subject.rpartition('.')[0]}.*" if subject.count(".") == 3 else subject


def parse_jobs(subject: str) -> tuple[str, str, str]:
    """(model, lane, tenant) of a job's subject, or of the pattern of all tenants' jobs: then the
    tenant is empty, as it is in other versions. The lane says if it is of another version."""
    _, token, lane, *rest = subject.split(".")
    ours = lane.removesuffix(str(VERSION))
    tenant = decode(rest[0]) if rest and rest[0] != "*" else ""
    return decode(token), ours if ours != lane else f"{lane} of another version", tenant


def consumer(model: str, lane: str) -> str:
    """The name of the durable consumer of one model and lane. A long id ends in a digest, as does
    the lane of a node with a long name."""
    return f"{_short(encode(model), _NAME_LIMIT)}-{_short(lane, _LANE_LIMIT)}{VERSION}"


def _short(token: str, most: int) -> str:
    if len(token) <= most:
        return token
    # The digest keeps apart two that begin alike.
    digest = hashlib.sha256(token.encode()).hexdigest()[:16]
    return f"{token[: most - 18]}=x{digest}"  # no token has a lower-case letter after =


def holder(node: str, random: str) -> str:
    """The name of a process that holds jobs: two tokens, of which the first is its node's, as the
    broker holds each login to that."""
    return f"{encode(node)}.{random}"


def home_of(holder: str) -> str:
    """The node's token in the name of a holder."""
    return holder.partition(".")[0]


def are_of(node: str, holder: str, sender: str) -> bool:
    """Whether a node and a holder, as somebody says, belong to the node that says it, of which
    `sender` is the token."""
    return home_of(holder) == sender == encode(node)


def frames(ingress: str, holder: str, job: str) -> str:
    """Where a holder says what it has of a job; of its name only the node's part stands there."""
    return f"r.{ingress}.{home_of(holder)}.{job}"


def all_frames(ingress: str) -> str:
    return f"r.{ingress}.*.*"


def answer(ingress: str, job: str, edition: int) -> str:
    """Where the broker confirms one publish of a job, and nobody else can. The edition tells
    several publishes apart, if a job is hedged, moved or lost."""
    return f"{INBOX_INGRESS}.{ingress}.j.{job}-{edition}"


def all_answers(ingress: str) -> str:
    """The answers to all publishes of an ingress."""
    return f"{INBOX_INGRESS}.{ingress}.j.*"


def answered(subject: str) -> tuple[str, int]:
    """(job, edition) of an `answer` subject. Raises ValueError for any other subject."""
    job, _, edition = job_of(subject).partition("-")
    return job, int(edition)


def body(ingress: str, holder: str, job: str) -> str:
    """Where a holder asks for pieces of a body that the job does not contain."""
    return f"b.{ingress}.{home_of(holder)}.{job}"


def all_bodies(ingress: str) -> str:
    return f"b.{ingress}.*.*"


def job_of(subject: str) -> str:
    """The job id of a `frames` or `body` subject."""
    return subject[subject.rfind(".") + 1 :]


def sender_of(subject: str) -> str:
    """The node's token of a `frames` or `body` subject: whose login may publish there."""
    end = subject.rfind(".")
    return subject[subject.rfind(".", 0, end) + 1 : end]


def ingress_of(subject: str) -> str:
    """The ingress of a `frames` subject."""
    return subject.partition(".")[2].partition(".")[0]


def control(holder: str) -> str:
    return f"c.{holder}"


def holder_of(subject: str) -> str:
    """The holder of a `control` subject."""
    return subject.removeprefix("c.")


def card(holder: str) -> str:
    return f"hb.{holder}"


def carded(subject: str) -> tuple[str, str]:
    """(token of the node, holder) of a `card` subject."""
    holder = subject.removeprefix("hb.")
    return home_of(holder), holder


def want(model: str) -> str:
    return f"fb.want.{encode(model)}"


def wanted(subject: str) -> str:
    """The model of a `want` subject."""
    return decode(subject.rpartition(".")[2])


def standing(model: str, lane: str) -> str:
    """Where ingresses tell how they stand in the queue of one model and lane."""
    return f"fq.{encode(model)}.{lane}{VERSION}"


def parse_standing(subject: str) -> tuple[str, str]:
    """(model, lane) of a `standing` subject. Raises ValueError."""
    _, token, lane = subject.split(".")
    return decode(token), lane.removesuffix(str(VERSION))


def slots_for(ingress: str) -> str:
    """Where an ingress is offered slots that were claimed at others."""
    return f"fw.{ingress}"


def dead(model: str) -> str:
    return f"dead.{encode(model)}"


def answer_to(name: str) -> str:
    """Where the answer to a request with an idempotency key is kept. `name`: one token."""
    return f"answers.{name}"


def kept(name: str) -> str:
    """Where an answer is kept for requests that would get the same. `name`: one token."""
    return f"kept.{name}"


def alert(id: str) -> str:
    """Where the alert of one threshold and period is kept."""
    return f"alerts.{id}"


def usage(ingress: str, window: int) -> str:
    return f"usage.{ingress}-{window}"


def counting(subject: str) -> str:
    """The ingress of a `usage` subject."""
    return subject.removeprefix("usage.").rpartition("-")[0]


def limits(kind: str, name: str) -> str:
    """Where it is kept what is used of the limits of a key or account. `kind`: "key" or
    "account"."""
    return f"limits.{kind}-{encode(name)}"


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


def left_of(ack: str) -> int:
    """How many messages its consumer has yet to deliver. Raises ValueError or IndexError."""
    return int(_delivery(ack)[6])


def number_of(ack: str) -> int:
    """How many messages its consumer delivered, with this one. Raises ValueError, IndexError."""
    return int(_delivery(ack)[4])


def is_ack(subject: str) -> bool:
    """Whether `subject` is the ack subject of a job's delivery."""
    return subject.startswith("$JS.ACK.") and _delivery(subject)[:1] == [JOBS_STREAM]


def credits(account: str) -> str:
    """The counter of one account, in the stream `CREDITS_STREAM`."""
    return f"credits.{encode(account)}"


def key(name: str) -> str:
    """The record of one key, in the stream `KEYS_STREAM`."""
    return f"keys.{encode(name)}"


def account_record(account: str) -> str:
    """The limits and the weight of one account, in the stream `KEYS_STREAM`."""
    return f"accounts.{encode(account)}"


def is_account_record(subject: str) -> bool:
    return subject.startswith("accounts.")


def recorded(subject: str) -> str:
    """Whose record it is: the name in a `credits`, `key` or `account_record` subject."""
    return decode(subject.partition(".")[2])


def node(name: str) -> str:
    """The record of a node, in the stream `NODES_STREAM`."""
    return f"nodes.{encode(name)}"


def is_node(subject: str) -> bool:
    """Whether `subject` is that of a node's record."""
    return subject.startswith("nodes.")


def invite(id: str) -> str:
    """The record of an invitation. `id`: one token."""
    return f"invites.{id}"


def join(invite: str) -> str:
    """Where the hub is asked by whoever is invited."""
    return f"join.{invite}"


def node_change(verb: str) -> str:
    """Where the console has the hub do this to a node."""
    return f"hub.console.{verb}"


def rotation(node: str) -> str:
    """Where a node tells the hub its new key."""
    return f"hub.rotate.{encode(node)}"


def changed(subject: str) -> str:
    """The subject of the record that the broker repeats on this one."""
    return subject.removeprefix(f"{CHANGES}.")
