"""The configuration of nats-server as JSON. Pure. Whom it trusts with what is in `rights`.

``SYS`` exports one stream of events: the end of each connection of a member. The import keeps its
subject, so an ingress subscribes to `schemas.subjects.DISCONNECTS`. The event is JSON; its
``client`` names the connection (``id``, ``name``, ``user``, ``kind``, ``client_type``), and
``reason`` says why it ended.

Facts from nats-server's own documentation (configuration, authorization, accounts): it reads JSON;
strings in double quotes are not searched for variables, so ``$SYS`` needs no escape; port -1 means
any free port; ``allow_responses: true`` permits one reply to each request that was received.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.nats.rights import CROSSINGS, LOGINS, STREAMED, Account, Crossing, Login, role_user
from schemas.settings import Nats
from workers.process import ports

ANY_PORT = -1

MAX_PAYLOAD = 2 * 2**20
"""Bytes: a job with its body inline, and a frame; larger bodies travel by reference."""
MAX_SUBSCRIPTIONS = 16_384
"""Of one connection: a worker has three for each model, of which its card may have 2,048."""
LOG_SIZE = 10 * 2**20
"""Bytes of one log file before it is rotated."""
LOG_FILES = 3

LOG_NAME = "nats-server.log"
SYNC = Nats().sync


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """What differs between two brokers.

    `store` is absolute; `users` maps each of `rights.ROLES` to (user, password); ports are 1-65535
    or `ANY_PORT`, and None for no monitoring page; `sync` says how often the server syncs what it
    has acknowledged to the disk: "always" before it acknowledges it, which a publisher pays with
    several times the latency. `joined`: logins of nodes and invitations, beside those of the roles.
    `more` is added as it is.
    """

    store: Path
    users: Mapping[str, tuple[str, str]] = field(repr=False)
    port: int = 4222
    http_port: int | None = None
    sync: str = SYNC
    joined: tuple[Login, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)


def render(config: ServerConfig) -> str:
    """The configuration file of `config`. Raises KeyError for a missing role."""
    return json.dumps(_whole(config), indent=1, ensure_ascii=False)


def _whole(config: ServerConfig) -> dict[str, Any]:
    return {
        "server_name": "headrace",
        "listen": f"{ports.LOOPBACK}:{config.port}",
        **_monitored(config.http_port),
        "ports_file_dir": str(config.store),
        "log_file": str(config.store / LOG_NAME),
        "logfile_size_limit": LOG_SIZE,
        "logfile_max_num": LOG_FILES,
        "max_payload": MAX_PAYLOAD,
        "max_subscriptions": MAX_SUBSCRIPTIONS,
        # A frozen client must not sit on jobs: it is dropped after two pings without an answer.
        "ping_interval": "2s",
        "ping_max": 2,
        "write_deadline": "5s",  # one that takes nothing of what it is sent is dropped, too
        "jetstream": {"store_dir": str(config.store), "sync_interval": config.sync},
        "system_account": Account.SYS,
        "accounts": _accounts(config),
        **config.more,
    }


def _monitored(port: int | None) -> dict[str, str]:
    return {} if port is None else {"http": f"{ports.LOOPBACK}:{port}"}


def _accounts(config: ServerConfig) -> dict[str, Any]:
    logins = [role_user(role, *config.users[role]) for role in LOGINS]
    logins += config.joined
    return configured(Account, logins, CROSSINGS)


def configured(
    accounts: Iterable[Account], logins: Sequence[Login], crossings: Sequence[Crossing]
) -> dict[str, Any]:
    return {
        str(account): {
            **({"jetstream": "enabled"} if account in STREAMED else {}),
            "users": [login.entry for login in logins if login.account is account],
            "exports": [exported(each) for each in crossings if each.owner is account],
            "imports": [imported(each, each.owner) for each in crossings if account in each.to],
        }
        for account in accounts
    }


def exported(crossing: Crossing) -> dict[str, Any]:
    answers = {"response_type": "Stream"} if crossing.many else {}
    return {crossing.kind: crossing.subject, "accounts": crossing.to, **answers}


def imported(crossing: Crossing, owner: str) -> dict[str, Any]:
    """`owner`: the account's name there."""
    return {crossing.kind: {"account": owner, "subject": crossing.subject}}
