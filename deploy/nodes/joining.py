"""`--join`: this machine becomes a node of the fabric whose token it has. Run once; what is learnt
is kept, so that the next start needs no token.

Nothing is said before it is known who listens: the token names the hub's CA by its fingerprint, and
the invite's key only signs. Of several addresses the first good one is used.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import NoReturn

from pydantic import PrivateAttr

from deploy import home
from deploy.configure import CommandFailed
from deploy.nats import certificates
from deploy.nats import store as stores
from deploy.nodes import chain, exchange, kept
from deploy.nodes import token as tokens
from deploy.nodes.exchange import ANEW, Answer, Ask
from deploy.nodes.kept import Node
from deploy.nodes.token import BadToken, Token
from schemas import bus as buses
from schemas import nkeys, registry, subjects
from schemas.bus import BusError, BusRefused
from schemas.jobs import CodecError
from schemas.nkeys import KeyPair
from schemas.settings import Nats

VARIABLE = "HEADRACE_JOIN"
_PATIENCE = 8.0
"""Seconds for the connection to one address."""
_ANSWER = 20.0
"""Seconds for the hub to let this machine in."""
_INBOXES = {
    registry.WORKER: subjects.INBOX_WORKER,
    registry.FALLBACK: subjects.INBOX_FALLBACK,
    registry.INGRESS: subjects.INBOX_INGRESS,
}


class Elsewhere(CommandFailed):
    """By this address it does not go; another one may be better."""


class Invited(Nats):
    """The broker, for who has the key of an invitation, which is in no file."""

    _pair: KeyPair = PrivateAttr()

    def key(self) -> KeyPair:
        return self._pair


def text_of(said: str) -> str:
    """The token that `--join` means: itself, `-` for standard input, `@file` for a file's. Raises
    CommandFailed."""
    try:
        if said == "-":
            return sys.stdin.readline(tokens.LONGEST + 1)
        if said.startswith("@"):
            with open(said[1:], errors="replace") as file:
                return file.read(tokens.LONGEST + 1)
    except OSError as fault:
        raise CommandFailed(f"--join {said}: {fault.strerror}") from None
    return said


async def join(said: str, role: str, data: Path) -> Node | None:
    """Become the node that the token is for; None if this machine is it already. Raises
    CommandFailed, SettingsError."""
    # No program that is started from here needs it.
    os.environ.pop(VARIABLE, None)
    try:
        token = tokens.unpack(text_of(said))
    except BadToken as fault:
        raise CommandFailed(f"--join: {fault}") from None
    if token.role != role:
        raise CommandFailed(
            f"this token lets a {token.role} join: 'headrace {token.role} --join …' takes it"
        )
    before = kept.find(data, role)
    if before is not None:
        if before.invite == token.invite:  # as where the token stays in a unit's environment
            return None
        if not await _is_dead(data, before):
            _known(data, before)
    home.make(data)
    _check_apart(data)
    try:
        if before is not None:
            kept.drop(data, role)
        return await _joined(token, data)
    except OSError as fault:
        raise CommandFailed(f"{data}: what is learnt cannot be kept: {fault.strerror}") from None


def _known(data: Path, before: Node) -> NoReturn:
    raise CommandFailed(
        f"this machine is the node {before.name!r} already: leave --join out to start it. For "
        f"another token name another --data, or delete {kept.folder(data, before.role)}"
    )


async def _is_dead(data: Path, node: Node) -> bool:
    """Whether its hub refuses the key that this machine has, as that of a node that was evicted."""
    try:
        login = Nats.model_validate(kept.settings(data, node)["nats"])
        async with asyncio.timeout(_PATIENCE):
            inbox = f"{_INBOXES[node.role]}.join"
            bus = await buses.connect(login, "headrace-join", inbox)
        await bus.close()
    except BusRefused:
        return True
    except (BusError, ValueError, TimeoutError):
        pass
    return False


def _check_apart(data: Path) -> None:
    """Raises CommandFailed where a broker runs: its processes would not find it any more."""
    found = stores.find(home.broker_store(data))
    if found is not None and Path(f"/proc/{found.pid}").exists():  # else its owner was killed
        raise CommandFailed(
            f"'headrace up' runs a fabric of its own on {data}: name another directory with --data"
        )


async def _joined(token: Token, data: Path) -> Node:
    """Raises CommandFailed, SettingsError, OSError."""
    whys = []
    for address in token.addresses:
        try:
            return await _joined_by(address, token, data)
        except Elsewhere as fault:
            whys.append(str(fault))
    raise CommandFailed("; ".join(dict.fromkeys(whys)))


async def _joined_by(address: str, token: Token, data: Path) -> Node:
    """Raises Elsewhere, CommandFailed, SettingsError, OSError."""
    ca = await _trusted(address, token, data)
    pairs = kept.keys(data, token.role)
    ask = Ask(
        nkey=pairs[0].public,
        clock=time.time(),
        second_nkey=pairs[1].public if len(pairs) > 1 else "",
        version=metadata.version("headrace"),
    )
    answer = await _asked(address, ca, token, ask)
    if answer.code:
        raise CommandFailed(answer.message or f"the hub does not let it join ({answer.code})")
    node = Node(answer.name, answer.role, _urls(address, token), token.invite, bool(ca))
    if node.role != token.role:
        raise CommandFailed(f"the hub took it for a {node.role}: {ANEW}")
    kept.keep(data, node)
    return node


async def _trusted(address: str, token: Token, data: Path) -> str:
    """The file of the CA whom the token says to trust; "" if every machine does. Raises Elsewhere,
    OSError."""
    if not token.fingerprint:
        return ""
    try:
        ders = await asyncio.to_thread(chain.shown, address)
    except (OSError, chain.NoBroker) as fault:
        raise Elsewhere(_unreached(address, fault)) from None
    der = chain.trusted(ders, token.fingerprint)
    if der is None:
        raise Elsewhere(
            f"who answers at {address} has no certificate of the CA that the token names (wrong "
            f"CA): it is another hub, or somebody in between; if the hub has a new CA, {ANEW}"
        )
    return str(kept.keep_ca(data, token.role, certificates.pem([der])))


async def _asked(address: str, ca: str, token: Token, ask: Ask) -> Answer:
    """Raises Elsewhere, CommandFailed."""
    try:
        login = Invited(url=address, ca=ca)
        login._pair = nkeys.of(token.secret)
        async with asyncio.timeout(_PATIENCE):
            inbox = f"{subjects.INBOX_JOIN}.{token.invite}"
            bus = await buses.connect(login, "headrace-join", inbox)
    except BusRefused:
        raise CommandFailed(_refused(token)) from None
    except TimeoutError:
        raise Elsewhere(_unreached(address, TimeoutError())) from None
    except (BusError, ValueError) as fault:
        raise Elsewhere(str(fault)) from None
    try:
        answer = await bus.request(subjects.join(token.invite), ask.pack(), timeout=_ANSWER)
        return exchange.unpack_answer(answer.data)
    except BusError as fault:
        raise CommandFailed(
            f"the broker at {address} is there, but its hub does not answer ({fault}): 'headrace "
            "up' or 'headrace broker' must run it. The token stays good until it expires"
        ) from None
    except CodecError as fault:
        raise CommandFailed(f"the hub's answer cannot be read ({fault}): update both") from None
    finally:
        await bus.close()


def _refused(token: Token) -> str:
    if token.expires < time.time():
        return f"the hub does not know this token any more, which has expired: {ANEW}"
    return (
        "the hub does not know this token: it was used or withdrawn, or is that of another hub; "
        f"{ANEW}"
    )


def _unreached(address: str, fault: Exception) -> str:
    if isinstance(fault, ssl.SSLError):
        why = f"no TLS there ({getattr(fault, 'reason', None) or fault})"
    elif isinstance(fault, TimeoutError):
        why = "no answer"
    elif isinstance(fault, OSError):
        why = fault.strerror or str(fault)
    else:
        why = str(fault)
    return (
        f"the hub cannot be reached at {address} ({why}): does 'headrace up --share' run there, "
        "and does a firewall let this machine through? The token stays good until it expires"
    )


def _urls(address: str, token: Token) -> str:
    """All addresses that are spoken to in the same way, the good one first."""
    web = address.startswith("ws")
    same = [each for each in token.addresses if each.startswith("ws") is web]
    return ",".join(dict.fromkeys([address, *same]))


def welcome(node: Node | None, role: str) -> str:
    """What people are told."""
    if node is None:
        return f"this machine has joined before; the next 'headrace {role}' needs no token"
    what = "" if role == registry.INGRESS else f" as the node {node.name!r}"
    return f"joined{what}, at {node.url}; the next 'headrace {role}' needs no token"
