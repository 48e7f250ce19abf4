"""``headrace nats setup``: checks a NATS that is not ours, and makes what Headrace keeps there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from deploy import doctor, findings
from deploy.configure import Unreachable, Where
from deploy.findings import Finding
from deploy.status import console
from deploy.survey import connected, version
from schemas import subjects, topology
from schemas.bus import Bus, BusError, NotFound
from schemas.jetstream import streams
from schemas.settings import Nats, Settings

ACCOUNTS = "accounts and logins for it: headrace nats accounts, or with --nsc in operator mode"


@dataclass(frozen=True, slots=True)
class Place:
    """An account with streams: how to reach it, and what is to be there."""

    what: str
    login: Nats
    inboxes: str
    streams: Sequence[dict[str, Any]]


async def show(where: Where, *, dry_run: bool) -> int:
    """Print what was found and done; 1 if something is missing that only others can mend."""
    out = console()
    faults = 0
    async for finding in everything(where, dry_run=dry_run):
        faults += finding.level == "fail"
        out.print(doctor.line(finding), soft_wrap=True)
    return 1 if faults else 0


async def everything(where: Where, *, dry_run: bool) -> AsyncIterator[Finding]:
    settings = where.settings()
    for place in places(where.admin(), settings):
        try:
            async with connected(place.login, "headrace-setup", place.inboxes) as bus:
                yield Finding("ok", f"{place.what}: {place.login.shown}")
                if place.inboxes == subjects.INBOX_ADMIN:
                    async for finding in _server(bus):
                        yield finding
                for wanted in place.streams:
                    yield await stream(bus, wanted, dry_run=dry_run)
        except (BusError, Unreachable) as fault:
            yield Finding("fail", f"{place.what}: {fault}", ACCOUNTS)


def places(admin: Nats, settings: Settings) -> list[Place]:
    """The accounts that have streams, as far as the settings have logins for them."""
    replicas = settings.nats.replicas
    jobs, nodes = topology.streams(settings.jobs, replicas), topology.nodes(replicas)
    cache = [topology.cache(settings.cache, replicas)] if settings.cache.use != "off" else []
    queue = [*jobs, nodes, *cache]
    found = [Place("queue, usage and nodes", admin, subjects.INBOX_ADMIN, queue)]
    if settings.vault.given:
        kept = [topology.keys(replicas), topology.limits(replicas)]
        found.append(Place("keys", settings.vault.beside(admin), subjects.INBOX_KEYS, kept))
    if settings.ledger.given:
        kept = [topology.credits(replicas), topology.credits_mark(replicas)]
        login = settings.ledger.beside(admin)
        found.append(Place("credits", login, subjects.INBOX_LEDGER, kept))
    return found


async def _server(bus: Bus) -> AsyncIterator[Finding]:
    """`connected` has refused a server that is too old."""
    yield Finding("ok", f"nats-server {version(bus)}")
    yield findings.payload(bus.max_payload)
    yield await doctor.jetstream(bus)


async def stream(bus: Bus, wanted: dict[str, Any], *, dry_run: bool) -> Finding:
    """Make a stream, or make it as it should be; what others have set beside it stays."""
    name = wanted["name"]
    try:
        have = (await streams.info(bus, name))["config"]
    except NotFound:
        have = None
    found = findings.compare(f"stream {name}", wanted, have, "this command")
    if found.level == "ok":
        return found
    told = "made" if have is None else found.what.removeprefix(f"stream {name} differs: ")
    if dry_run:
        return Finding(
            "warn", found.what, f"this command {'makes it' if have is None else 'sets it'}"
        )
    try:
        await streams.ensure(bus, [wanted])
    except BusError as fault:
        return Finding("fail", f"stream {name}: {fault}", _mend(str(fault)))
    return Finding("ok", f"stream {name} {'is made' if have is None else f'is set right: {told}'}")


def _mend(fault: str) -> str:
    if "replicas" in fault:
        return "[nats] replicas: as many as there are servers with JetStream, 1, 3 or 5"
    return "see the limits of JetStream in its account, and the server's log"
