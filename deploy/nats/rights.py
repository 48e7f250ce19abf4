"""Who may say what to whom at the broker: the one table of accounts, logins and what crosses. Pure.

nats-server publishes replies with its own rights: a client that may ask JetStream anything within
the account of the streams can write into each of them, or delete it, by naming a subject there as
the reply. So nobody but the admin logs in where the streams are. All others are in accounts without
JetStream, whose messages cross by imports; the reply to what crosses is a subject of the account
that asked, where such a subject means nothing.

A *service* is a question that is asked in one account and answered in another; a *stream* is
messages of one account that are heard in another. Both keep their subject.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from schemas import registry, subjects
from schemas.registry import Invite, Node


class Account(StrEnum):
    HEADRACE = "HEADRACE"
    """The streams, and who looks after them."""
    EDGE = "EDGE"
    """Ingresses."""
    MEMBERS = "MEMBERS"
    """Who holds jobs: workers and fallbacks."""
    LEDGER = "LEDGER"
    """The credits. It shares nothing with HEADRACE."""
    KEYS = "KEYS"
    """API keys, and what is used of their limits. It may ask LEDGER for grants, and nothing else:
    the login that writes keys can make an admin of any."""
    MONITOR = "MONITOR"
    """Who looks on."""
    JOIN = "JOIN"
    """Who is invited, and the hub that lets them in."""
    SYS = "SYS"
    """The server's own."""


STREAMED = (Account.HEADRACE, Account.LEDGER, Account.KEYS)
"""Accounts that have JetStream."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a login may publish and subscribe to, beside one reply to each request it gets."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Crossing:
    """What `owner` exports to the accounts in `to`. `many`: a service with several answers."""

    owner: Account
    kind: str
    subject: str
    to: tuple[Account, ...]
    many: bool = False


@dataclass(frozen=True, slots=True)
class Login:
    """A user of the broker. `grant`: None has no limits inside the account. `known`: how the
    server knows it, by user and password or by the public key of its nkey."""

    account: Account
    known: Mapping[str, str]
    grant: Grant | None

    @property
    def entry(self) -> dict[str, Any]:
        """As it stands in the server's configuration."""
        if self.grant is None:
            return dict(self.known)
        allowed = {
            "publish": {"allow": self.grant.publish},
            "subscribe": {"allow": self.grant.subscribe},
        }
        return {**self.known, "permissions": {**allowed, "allow_responses": True}}


_JOBS, _NODES = subjects.JOBS_STREAM, subjects.NODES_STREAM
_ANSWERS, _ALERTS, _USAGE = subjects.ANSWERS_STREAM, subjects.ALERTS_STREAM, subjects.USAGE_STREAM
_CACHE = subjects.CACHE_STREAM
_STREAMS = (_JOBS, subjects.DEAD_STREAM, _USAGE, _ANSWERS, _CACHE, _ALERTS)
_READ = (_USAGE, _ANSWERS, _ALERTS)
_ENSURE = ("INFO", "CREATE", "UPDATE")

_ACKS = f"$JS.ACK.{_JOBS}.>"
_PULLS = f"$JS.API.CONSUMER.MSG.NEXT.{_JOBS}.*"
_RECORDS = f"$JS.API.DIRECT.GET.{_NODES}"

PUBLISHED = (
    subjects.ALL_JOBS,
    subjects.ALL_DEAD,
    subjects.ALL_USAGE,
    subjects.ALL_ANSWERS,
    subjects.ALL_KEPT,
    subjects.ALL_ALERTS,
)
"""What an ingress writes into streams."""
LOOKS = (
    *(f"$JS.API.STREAM.INFO.{name}" for name in _STREAMS),
    f"$JS.API.CONSUMER.LIST.{_JOBS}",
    f"$JS.API.CONSUMER.INFO.{_JOBS}.*",
)
"""Questions about streams and consumers that change nothing and tell no request."""
ASKED = (
    *(f"$JS.API.STREAM.{verb}.{name}" for verb in _ENSURE[1:] for name in _STREAMS),
    *(f"$JS.API.STREAM.MSG.GET.{name}" for name in (_JOBS, subjects.DEAD_STREAM)),
    f"$JS.API.STREAM.MSG.DELETE.{_JOBS}",
    f"$JS.API.CONSUMER.NAMES.{_JOBS}",
    f"$JS.API.CONSUMER.DELETE.{_USAGE}.*",
    *(f"$JS.API.CONSUMER.CREATE.{name}.*" for name in (_JOBS, *_READ)),
    *(f"$JS.API.DIRECT.GET.{name}.>" for name in (_ANSWERS, _CACHE)),
    f"$JS.ACK.{_ALERTS}.>",
)
"""What else an ingress asks JetStream for."""
READ = tuple(f"$JS.API.CONSUMER.MSG.NEXT.{name}.*" for name in _READ)
"""What an ingress pulls: many messages for one question."""
KEPT_NODES = (
    subjects.ALL_NODES,
    subjects.ALL_INVITES,
    *(f"$JS.API.STREAM.{verb}.{_NODES}" for verb in _ENSURE),
)
"""What the hub writes, and asks for, of the records of nodes."""

_SERVICE = "$SRV.>"
"""Discovery of micro services (`nats micro ls`): every process answers it."""


def _crossings() -> Iterator[Crossing]:
    core, edge, members = Account.HEADRACE, Account.EDGE, Account.MEMBERS
    monitor, join = Account.MONITOR, Account.JOIN

    def services(owner: Account, to: Iterable[Account], *names: str, many: bool = False) -> Any:
        return (Crossing(owner, "service", name, tuple(to), many) for name in names)

    def streams(owner: Account, to: Iterable[Account], *names: str) -> Any:
        return (Crossing(owner, "stream", name, tuple(to)) for name in names)

    # An account without JetStream whose own words for it are overshadowed by this gets none of the
    # server's, which would take precedence over what is imported here (nats-server,
    # `enableJetStreamInfoServiceImportOnly`).
    yield from services(core, [edge, members, join, monitor], "$JS.API.INFO")
    yield from services(core, [edge], *PUBLISHED[:-1], *ASKED)
    yield from services(core, [edge, members], PUBLISHED[-1])
    yield from services(core, [edge, monitor], *LOOKS)
    yield from services(core, [edge], *READ, many=True)
    yield from services(core, [edge, members], _ACKS, many=True)
    yield from services(core, [members], _PULLS, many=True)
    yield from services(core, [join], *KEPT_NODES)
    yield from services(core, [edge, join, monitor], _RECORDS, many=True)
    yield from streams(core, [edge, join], subjects.ALL_CHANGES)

    yield from streams(edge, [members], subjects.ALL_CONTROLS, subjects.ALL_WANTS)
    yield from services(edge, [members], subjects.ALL_BODIES)
    yield from services(edge, [core, monitor], subjects.ASK_QUEUES, _SERVICE, many=True)

    yield from streams(members, [edge], subjects.ALL_FRAMES)
    yield from streams(members, [edge, core, join, monitor], subjects.ALL_CARDS)
    yield from services(members, [edge], subjects.ASK_LEDGER)
    yield from services(members, [core, monitor], _SERVICE, many=True)

    yield from streams(join, [members], subjects.ALL_CONTROLS)
    yield from services(join, [members, edge], subjects.ALL_ROTATIONS)
    yield from services(join, [core], subjects.ASK_APPLIED)
    yield from services(join, [monitor], subjects.ALL_NODE_CHANGES)

    yield from services(Account.LEDGER, [Account.KEYS], subjects.ASK_GRANT)
    yield from streams(Account.SYS, [edge, core], subjects.DISCONNECTS)


CROSSINGS = tuple(_crossings())
"""All that crosses from one account into another."""


def _discovery(role: str) -> tuple[str, ...]:
    """What a process of the fabric hears to be found: by no other name than its role's."""
    # Not `$SRV.*`: the server takes a subscription to `$SRV.>` for one of these (measured).
    verbs = ("$SRV.PING", "$SRV.INFO", "$SRV.STATS")
    return (*verbs, f"$SRV.*.headrace-{role}", f"$SRV.*.headrace-{role}.*")


def _member(role: str, inbox: str, node: str, pulls: Iterable[str], acks: Iterable[str]) -> Grant:
    """A holder of jobs on `node`, or on any for ``*``."""
    publish = (f"r.*.{node}.*", f"b.*.{node}.*", f"hb.{node}.*", *pulls, *acks)
    heard = (f"{inbox}.{node}.>", f"c.{node}.*", *_discovery(role))
    if role == registry.WORKER:
        return Grant(publish, heard)
    more = (subjects.ALL_WANTS, subjects.ASK_LEDGER, subjects.ALL_CARDS)
    return Grant((*publish, subjects.ALL_ALERTS), (*heard, *more))


WORKER = _member(registry.WORKER, subjects.INBOX_WORKER, "*", [_PULLS], [_ACKS])
FALLBACK = _member(registry.FALLBACK, subjects.INBOX_FALLBACK, "*", [_PULLS], [_ACKS])
"""As a worker, and also hears of jobs that no worker takes, and says that credits run out. Credits
need a login of LEDGER."""

INGRESS = Grant(
    publish=(
        *PUBLISHED,
        subjects.ALL_CONTROLS,
        subjects.ALL_STANDINGS,
        subjects.ALL_SLOTS,
        subjects.CACHES,
        subjects.ALL_WANTS,
        subjects.ASK_LEDGER,
        subjects.ASK_REQUESTS,
        _ACKS,
        *LOOKS,
        *ASKED,
        *READ,
        _RECORDS,
    ),
    subscribe=(
        f"{subjects.INBOX_INGRESS}.>",
        subjects.ALL_FRAMES,
        subjects.ALL_BODIES,
        subjects.ALL_STANDINGS,
        subjects.ALL_SLOTS,
        subjects.CACHES,
        subjects.ALL_CARDS,
        subjects.ALL_CHANGES,
        subjects.ASK_QUEUES,
        subjects.ASK_REQUESTS,
        subjects.DISCONNECTS,
        *_discovery("ingress"),
    ),
)

MONITOR = Grant(
    publish=(*LOOKS, _RECORDS, subjects.ASK_QUEUES, _SERVICE),
    subscribe=(f"{subjects.INBOX_MONITOR}.>", subjects.ALL_CARDS),
)
"""It reads cards, records of nodes and figures; no request, no answer."""

CONSOLE = Grant((*MONITOR.publish, subjects.ALL_NODE_CHANGES), MONITOR.subscribe)
"""It looks on, and asks the hub to invite, drain and evict nodes: for admins alone, as the console
has it."""

HUB = Grant(
    # A reload of the broker forgets which questions came, and most answers of the hub follow one.
    publish=(*KEPT_NODES, _RECORDS, subjects.ALL_CONTROLS, f"{subjects.INBOX_JOIN}.>", "_R_.>"),
    subscribe=(
        f"{subjects.INBOX_HUB}.>",
        subjects.ALL_CARDS,
        subjects.ALL_CHANGES,
        subjects.ALL_JOINS,
        subjects.ASK_APPLIED,
        subjects.ALL_ROTATIONS,
        subjects.ALL_NODE_CHANGES,
    ),
)

_KEPT = (subjects.KEYS_STREAM, subjects.LIMITS_STREAM)
_COUNTED = (subjects.CREDITS_STREAM, subjects.MARK_STREAM)
KEYS = Grant(
    publish=(
        subjects.ALL_KEYS,
        subjects.ALL_ACCOUNTS,
        subjects.PEPPER,
        subjects.ALL_LIMITS,
        *(f"$JS.API.STREAM.{verb}.{name}" for verb in _ENSURE for name in _KEPT),
        *(f"$JS.API.CONSUMER.CREATE.{name}.*" for name in _KEPT),
        *(f"$JS.API.CONSUMER.MSG.NEXT.{name}.*" for name in _KEPT),
        *(f"$JS.API.DIRECT.GET.{name}.>" for name in _KEPT),
        *(f"$JS.FC.{name}.>" for name in _KEPT),  # a follower answers the broker's flow control
        subjects.ASK_GRANT,
    ),
    subscribe=(f"{subjects.INBOX_KEYS}.>",),
)
"""It can neither delete nor purge, reaches nothing else of the account, and asks for grants."""

LEDGER = Grant(
    publish=(
        subjects.ALL_CREDITS,
        subjects.CREDITS_MARK,
        *(f"$JS.API.STREAM.{verb}.{name}" for verb in _ENSURE for name in _COUNTED),
        *(f"$JS.API.CONSUMER.CREATE.{name}.*" for name in _COUNTED),
        *(f"$JS.API.CONSUMER.MSG.NEXT.{name}.*" for name in _COUNTED),
        *(f"$JS.API.DIRECT.GET.{name}.>" for name in _COUNTED),
        *(f"$JS.FC.{name}.>" for name in _COUNTED),
    ),
    subscribe=(f"{subjects.INBOX_LEDGER}.>", subjects.ASK_GRANT),
)
"""A fallback of another machine: it books, and can neither delete nor purge."""

KEYS_ROLE = "keys"
"""An ingress' second connection, and `headrace key`."""
LEDGER_ROLE = "ledger"
"""A fallback's second connection, and `headrace credits`."""
MONITOR_ROLE = "monitor"
"""Dashboards, `headrace status`."""
CONSOLE_ROLE = "console"
"""`headrace console`."""
HUB_ROLE = "hub"
"""The process that runs the broker, as it lets nodes in."""
SYSTEM_ROLE = "sys"
"""For tools such as `nats server report`."""

LOGINS: Mapping[str, tuple[Account, Grant | None]] = {
    "admin": (Account.HEADRACE, None),
    "ingress": (Account.EDGE, INGRESS),
    "worker": (Account.MEMBERS, WORKER),
    "fallback": (Account.MEMBERS, FALLBACK),
    LEDGER_ROLE: (Account.LEDGER, None),
    KEYS_ROLE: (Account.KEYS, KEYS),
    MONITOR_ROLE: (Account.MONITOR, MONITOR),
    CONSOLE_ROLE: (Account.MONITOR, CONSOLE),
    HUB_ROLE: (Account.JOIN, HUB),
    SYSTEM_ROLE: (Account.SYS, None),
}
"""The broker's own logins, by role. None: no limits inside the account."""
ROLES = tuple(LOGINS)


def role_user(role: str, user: str, password: str) -> Login:
    account, grant = LOGINS[role]
    return Login(account, {"user": user, "password": password}, grant)


def node_users(node: Node, nkey: str, second_nkey: str = "") -> tuple[Login, ...]:
    """The logins of a node that joined, by its keys: by the previous ones, too, while it changes
    them. None for one that was evicted, or has no key."""
    if node.state == registry.EVICTED:
        return ()
    account, grant = _first(node)
    found = [Login(account, {"nkey": nkey}, grant)] if nkey else []
    if second_nkey and node.role in _SECOND:
        second, rights = _SECOND[node.role]
        found.append(Login(second, {"nkey": second_nkey}, rights))
    return tuple(found)


def invite_user(invite: Invite) -> Login:
    """The login of an open invitation: it can ask to join, and nothing else."""
    grant = Grant((subjects.join(invite.id),), (f"{subjects.INBOX_JOIN}.{invite.id}.>",))
    return Login(Account.JOIN, {"nkey": invite.verifier}, grant)


_SECOND = {
    registry.INGRESS: (Account.KEYS, KEYS),
    registry.FALLBACK: (Account.LEDGER, LEDGER),
}
"""What a node's second connection is to, by its role."""


def _first(node: Node) -> tuple[Account, Grant]:
    rotates = subjects.rotation(node.name)
    if node.role == registry.INGRESS:
        return Account.EDGE, Grant((*INGRESS.publish, rotates), INGRESS.subscribe)
    lanes: tuple[str, ...]
    if node.role == registry.WORKER:
        inbox = subjects.INBOX_WORKER
        lanes = (subjects.INTERACTIVE, subjects.BATCH, subjects.pinned(node.name))
    else:
        inbox = subjects.INBOX_FALLBACK
        lanes = (subjects.INTERACTIVE, subjects.CLOUD)
    # One by one, as no pattern matches a part of a token.
    names = [subjects.consumer(model, lane) for model in node.served for lane in lanes]
    pulls = [f"$JS.API.CONSUMER.MSG.NEXT.{_JOBS}.{name}" for name in names]
    acks = [f"$JS.ACK.{_JOBS}.{name}.>" for name in names]
    found = _member(node.role, inbox, subjects.encode(node.name), pulls, acks)
    return Account.MEMBERS, Grant((*found.publish, rotates), found.subscribe)
