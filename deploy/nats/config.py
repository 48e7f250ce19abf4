"""The configuration of nats-server as JSON, and the rights of each role. Pure.

Accounts: ``HEADRACE`` holds every process of the fabric. ``LEDGER`` holds the credits and shares
nothing with HEADRACE. They are apart because nats-server publishes replies with its own rights: a
client that may ask JetStream anything can write into any stream of its account, by naming the
stream's subject as the reply. ``SYS`` is the server's own. It exports one stream of events, to
HEADRACE alone: the end of each connection of that account. The import keeps its subject, so an
ingress subscribes to `schemas.subjects.DISCONNECTS`. The event is JSON; its ``client`` names the
connection (``id``, ``name``, ``user``, ``kind``, ``client_type``), and ``reason`` says why it
ended.

Facts from nats-server's own documentation (configuration, authorization, accounts): it reads JSON;
strings in double quotes are not searched for variables, so ``$SYS`` needs no escape; port -1 means
any free port; ``allow_responses: true`` permits one reply to each request that was received.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas import subjects
from schemas.settings import Nats
from workers.process import ports

ACCOUNT = "HEADRACE"
LEDGER_ACCOUNT = "LEDGER"
SYSTEM_ACCOUNT = "SYS"
ANY_PORT = -1

MAX_PAYLOAD = 2 * 2**20
"""Bytes: a job with its body inline, and a frame; larger bodies travel by reference."""
LOG_SIZE = 10 * 2**20
"""Bytes of one log file before it is rotated."""
LOG_FILES = 3

LOG_NAME = "nats-server.log"
SYNC = Nats().sync


@dataclass(frozen=True, slots=True)
class Grant:
    """What one role may publish and subscribe to, beside one reply to each request it gets."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


_JOBS = subjects.JOBS_STREAM
_ACKS = f"$JS.ACK.{_JOBS}.>"
_ANSWERS = subjects.ANSWERS_STREAM
_STREAMS = (_JOBS, subjects.DEAD_STREAM, subjects.USAGE_STREAM, _ANSWERS)
_ENSURE = ("INFO", "CREATE", "UPDATE")
_SERVICE = "$SRV.>"
"""Discovery of micro services (`nats micro ls`): every process answers it."""

WORKER = Grant(
    publish=(
        "r.*.*",
        "b.*.*",
        subjects.ALL_CARDS,
        _ACKS,
        f"$JS.API.CONSUMER.MSG.NEXT.{_JOBS}.*",
        f"$JS.API.CONSUMER.CREATE.{_JOBS}.>",
        f"$JS.API.CONSUMER.INFO.{_JOBS}.*",
        f"$JS.API.STREAM.INFO.{_JOBS}",
        "$JS.API.INFO",
    ),
    subscribe=(f"{subjects.INBOX_WORKER}.>", "c.*", _SERVICE),
)

INGRESS = Grant(
    publish=(
        subjects.ALL_JOBS,
        subjects.ALL_DEAD,
        subjects.ALL_USAGE,
        subjects.ALL_ANSWERS,
        "c.*",
        subjects.ALL_WANTS,
        subjects.ASK_LEDGER,
        subjects.ALL_CARDS,
        _ACKS,
        *(f"$JS.API.STREAM.{verb}.{name}" for verb in _ENSURE for name in _STREAMS),
        *(f"$JS.API.STREAM.MSG.GET.{name}" for name in (_JOBS, subjects.DEAD_STREAM)),
        f"$JS.API.STREAM.MSG.DELETE.{_JOBS}",
        "$JS.API.INFO",
        f"$JS.API.CONSUMER.LIST.{_JOBS}",
        *(f"$JS.API.CONSUMER.CREATE.{name}.*" for name in (subjects.USAGE_STREAM, _ANSWERS)),
        *(f"$JS.API.CONSUMER.MSG.NEXT.{name}.*" for name in (subjects.USAGE_STREAM, _ANSWERS)),
        f"$JS.API.DIRECT.GET.{_ANSWERS}.>",
        # Answers to claims, and bodies by reference: many messages to one request, which
        # `allow_responses` would cut off after the first.
        f"{subjects.INBOX_WORKER}.>",
        f"{subjects.INBOX_FALLBACK}.>",
    ),
    subscribe=(
        f"{subjects.INBOX_INGRESS}.>",
        "r.*.*",
        "b.*.*",
        subjects.ALL_CARDS,
        subjects.DISCONNECTS,
        _SERVICE,
    ),
)

FALLBACK = Grant(
    publish=WORKER.publish,
    subscribe=(
        f"{subjects.INBOX_FALLBACK}.>",
        "c.*",
        subjects.ALL_WANTS,
        subjects.ASK_LEDGER,
        subjects.ALL_CARDS,
        _SERVICE,
    ),
)
"""As a worker, and also hears of jobs that no worker takes. Credits need a login of LEDGER."""

GRANTS: Mapping[str, Grant | None] = {
    "worker": WORKER,
    "ingress": INGRESS,
    "fallback": FALLBACK,
    "admin": None,
}
"""Roles of the account HEADRACE. None: no limits inside the account."""
LEDGER_ROLE = "ledger"
"""The one user of the account LEDGER: the fallback's second connection, and `headrace credits`."""
SYSTEM_ROLE = "sys"
"""The one user of the system account, for tools such as `nats server report`."""
ROLES = (*GRANTS, LEDGER_ROLE, SYSTEM_ROLE)


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """What differs between two brokers.

    `store` is absolute; `users` maps each of `ROLES` to (user, password); ports are 1-65535 or
    `ANY_PORT`; `sync` says how often the server syncs what it has acknowledged to the disk:
    "always" before it acknowledges it, which a publisher pays with several times the latency.
    `more` is added as it is.
    """

    store: Path
    users: Mapping[str, tuple[str, str]] = field(repr=False)
    port: int = 4222
    http_port: int = 8222
    sync: str = SYNC
    more: Mapping[str, Any] = field(default_factory=dict)


def render(config: ServerConfig) -> str:
    """The configuration file of `config`. Raises KeyError for a missing role."""
    return json.dumps(_whole(config), indent=1, ensure_ascii=False)


def _whole(config: ServerConfig) -> dict[str, Any]:
    return {
        "server_name": "headrace",
        "listen": f"{ports.LOOPBACK}:{config.port}",
        "http": f"{ports.LOOPBACK}:{config.http_port}",
        "ports_file_dir": str(config.store),
        "log_file": str(config.store / LOG_NAME),
        "logfile_size_limit": LOG_SIZE,
        "logfile_max_num": LOG_FILES,
        "max_payload": MAX_PAYLOAD,
        # A frozen client must not sit on jobs: it is dropped after two pings without an answer.
        "ping_interval": "2s",
        "ping_max": 2,
        "write_deadline": "5s",  # one that takes nothing of what it is sent is dropped, too
        "jetstream": {"store_dir": str(config.store), "sync_interval": config.sync},
        "system_account": SYSTEM_ACCOUNT,
        "accounts": _accounts(config),
        **config.more,
    }


def _accounts(config: ServerConfig) -> dict[str, Any]:
    ends = subjects.DISCONNECTS
    return {
        SYSTEM_ACCOUNT: {
            "users": [_user(config, SYSTEM_ROLE)],
            "exports": [{"stream": ends, "accounts": [ACCOUNT]}],
        },
        ACCOUNT: {
            "jetstream": "enabled",
            "imports": [{"stream": {"account": SYSTEM_ACCOUNT, "subject": ends}}],
            "users": [_user(config, role) for role in GRANTS],
        },
        LEDGER_ACCOUNT: {"jetstream": "enabled", "users": [_user(config, LEDGER_ROLE)]},
    }


def _user(config: ServerConfig, role: str) -> dict[str, Any]:
    user, password = config.users[role]
    known = {"user": user, "password": password}
    grant = GRANTS.get(role)
    if grant is None:
        return known
    allowed = {"publish": {"allow": grant.publish}, "subscribe": {"allow": grant.subscribe}}
    return {**known, "permissions": {**allowed, "allow_responses": True}}
