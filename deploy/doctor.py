"""``headrace doctor``: looks for faults, and says how to mend them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson
from rich.text import Text

from deploy import disk, findings, home, survey
from deploy import keys as stored
from deploy.configure import CommandFailed, Unreachable, Where
from deploy.findings import Finding, Level, compare
from deploy.nats.errors import StoreUnusable
from deploy.nats.rights import SYSTEM_ROLE
from deploy.nodes import chain
from deploy.status import console
from deploy.survey import Survey, Surveyor, connected
from schemas import bus as buses
from schemas import registry, subjects, topology
from schemas.bus import ApiError, Bus, BusError, Message, NotFound
from schemas.frames import Role
from schemas.jetstream import queues, streams
from schemas.jetstream.words import seconds
from schemas.nodes import Card
from schemas.settings import Nats, Settings, SettingsError, load

_EVENT = 2.0
"""Seconds for the broker to tell that a connection ended; it takes some milliseconds."""
_COLOURS: dict[Level, str] = {"ok": "green", "warn": "yellow", "fail": "bold red"}


async def show(where: Where) -> int:
    """Print every finding; 1 if one of them is a fault, else 0."""
    out = console()
    faults = 0
    async for finding in everything(where):
        faults += finding.level == "fail"
        out.print(line(finding), soft_wrap=True)
    return 1 if faults else 0


async def everything(where: Where) -> AsyncIterator[Finding]:
    """All findings; stops at a fault that prevents further checks."""
    try:
        settings = load(where.config)
    except SettingsError as fault:
        yield Finding("fail", f"the settings are wrong: {fault}", "see deploy/config.example.toml")
        return
    yield Finding("ok", f"settings readable{f' in {where.config}' if where.config else ''}")
    for finding in (*findings.programs(settings.engines), *here(where.data)):
        yield finding
    try:
        login = where.admin()
        async with connected(login, "headrace-doctor") as bus:
            async for finding in broker(bus, login, where.data):
                yield finding
            surveyor = Surveyor(bus, login.shown)
            await surveyor.gather()
            async for finding in fabric(bus, await surveyor.look(), settings):
                yield finding
        yield await keys(where)
    except (Unreachable, SettingsError) as fault:
        yield Finding("fail", str(fault))
    except (BusError, StoreUnusable) as fault:
        yield Finding("fail", f"the broker did not answer: {fault}", "see its log")


def here(data: Path) -> Iterator[Finding]:
    """Findings about the data directory, and the disk below it."""
    try:
        yield from findings.places(data)
        yield from disk.look(data)
    except OSError as fault:
        mend = "run it as the user whose data it is, or name another --data"
        yield Finding("fail", f"{data} cannot be looked into: {fault.strerror}", mend)


def line(finding: Finding) -> Text:
    text = Text.assemble((f"{finding.level:4}", _COLOURS[finding.level]), "  ", finding.what)
    if finding.mend:
        text.append(f"\n      → {finding.mend}", "dim")
    return text


async def broker(bus: Bus, login: Nats, data: Path) -> AsyncIterator[Finding]:
    """Findings about nats-server. `connected` has refused a server that is too old."""
    yield Finding("ok", f"nats-server {survey.version(bus)} at {login.shown}")
    if login.secure:
        yield await certificate(login)
    yield findings.payload(bus.max_payload)
    yield findings.pings(await varz(login, data))
    yield await jetstream(bus)
    if (member := home.login(data, registry.WORKER)) is not None and member["url"] == login.url:
        yield await disconnects(bus, Nats.model_validate(member))


async def fabric(
    bus: Bus, seen: Survey, settings: Settings, *, errors: bool = True
) -> AsyncIterator[Finding]:
    """Findings about our processes, and about the streams and consumers that they made. `errors`:
    those of dead letters, too, which not every login may read."""
    yield findings.ingresses(seen)
    ahead = None
    for wanted in topology.streams(settings.jobs, settings.nats.replicas):
        finding, ahead = await stream(bus, wanted)
        yield finding
    for finding in (
        *consumers(seen.cards, await queues.consumers(bus), settings),
        *findings.engines(seen.cards),
        *findings.clock(ahead),
        await dead(bus if errors else None, seen.dead, settings.jobs.dead_age),
    ):
        yield finding


async def keys(where: Where) -> Finding:
    """Whether keys can be kept, and ingresses will know them."""
    try:
        async with stored.opened(where, founds=False) as store:
            live = sum(record.revoked is None for record in await store.keys())
    except stored.NoStore:
        return Finding("ok", "no store of keys yet: the first ingress makes it")
    except CommandFailed as fault:
        mend = "keys of the configuration work without it; docs/operations.md, Keys"
        return Finding("warn", f"the store of keys: {fault}", mend)
    return Finding("ok", f"{live} keys in the store")


async def varz(login: Nats, data: Path) -> dict[str, Any] | None:
    """What the broker that runs on our store says of itself; None for any other broker."""
    with contextlib.suppress(ValueError, Unreachable, BusError, KeyError):
        system = home.login(data, SYSTEM_ROLE)
        if system is None or system["url"] != login.url:
            return None
        async with connected(Nats.model_validate(system), "headrace-doctor/system") as bus:
            answer = await bus.request("$SYS.REQ.SERVER.PING.VARZ")
            found: dict[str, Any] = orjson.loads(answer.data)["data"]
            return found
    return None


async def certificate(login: Nats) -> Finding:
    """Until when the broker's is good."""
    url = login.url.partition(",")[0]
    ders: list[bytes] = []
    with contextlib.suppress(OSError, chain.NoBroker):
        ders = await asyncio.to_thread(chain.shown, url)
    return findings.certificate(chain.leaf(ders), url)


async def disconnects(bus: Bus, member: Nats) -> Finding:
    """Open a member's connection, drop it, and check that the broker reports its end."""
    heard: asyncio.Queue[int] = asyncio.Queue()

    def hear(message: Message) -> None:
        with contextlib.suppress(orjson.JSONDecodeError, KeyError, TypeError):
            heard.put_nowait(int(orjson.loads(message.data)["client"]["id"]))

    subscription = await bus.subscribe(subjects.DISCONNECTS, hear)
    await bus.flush()  # the broker must know of the subscription before the connection ends
    other = await buses.connect(
        member, "headrace-doctor/dropped", f"{subjects.INBOX_WORKER}.doctor"
    )
    mine = other.client_id
    await other.close()
    began = time.monotonic()
    try:
        async with asyncio.timeout(_EVENT):
            while await heard.get() != mine:
                pass
    except TimeoutError:
        return Finding(
            "warn",
            f"the broker does not tell when a connection ends ({subjects.DISCONNECTS})",
            "let the accounts of admins and ingresses import that subject from the system account, "
            "else a dead worker is noticed by its silence alone, after some seconds",
        )
    finally:
        await subscription.stop()
    took = (time.monotonic() - began) * 1000
    return Finding("ok", f"the broker tells when a connection ends, after {took:.0f} ms")


def consumers(
    cards: Iterable[Card], there: Iterable[dict[str, Any]], settings: Settings
) -> Iterator[Finding]:
    """Whether each served model has the consumers of its jobs."""
    configs = {info["name"]: info["config"] for info in there}
    ack_wait, replicas = settings.jobs.ack_wait, settings.nats.replicas
    queues = {
        (model.id, lane)
        for card in cards
        for lane in (subjects.INTERACTIVE, subjects.BATCH)
        for model in card.models
        if lane == subjects.INTERACTIVE or card.role != Role.FALLBACK
    }
    for model, lane in sorted(queues, key=lambda each: (each[0], each[1] == subjects.BATCH)):
        wanted = topology.consumer(model, lane, ack_wait, replicas)
        name = wanted["durable_name"]
        yield compare(f"consumer {name}", wanted, configs.get(name), "the model's worker")


async def dead(bus: Bus | None, counts: dict[str, int], age: float) -> Finding:
    """`bus`: where the errors can be read; None if they are not told."""
    if not counts:
        return Finding("ok", "no dead letters")
    lines = [
        f"{count} of {model}" + (f", the last one: {await last_error(bus, model)}" if bus else "")
        for model, count in sorted(counts.items())
    ]
    return Finding(
        "warn",
        f"dead letters: {'; '.join(lines)}",
        "mend the cause, then send them again with 'headrace dead retry', or forget them with "
        f"'headrace dead drop'; they go by themselves after {age:g} s",
    )


async def jetstream(bus: Bus) -> Finding:
    try:
        await bus.api("INFO")
    except BusError as fault:
        return Finding(
            "fail", f"no JetStream: {fault}", "enable it in the broker, and for the account"
        )
    return Finding("ok", "JetStream is on")


async def stream(bus: Bus, wanted: dict[str, Any]) -> tuple[Finding, float | None]:
    """What is wrong with a stream, and by how many seconds the broker's clock is ahead of ours."""
    name = wanted["name"]
    began = time.time()
    try:
        info = await streams.info(bus, name)
    except NotFound:
        return compare(f"stream {name}", wanted, None, "an ingress"), None
    except ApiError as fault:
        return Finding("fail", f"stream {name}: {fault}", "see the broker's log"), None
    # The broker's stamp is from about the middle of the round trip.
    ahead = seconds(info["ts"]) - (began + time.time()) / 2
    return compare(f"stream {name}", wanted, info["config"], "an ingress"), ahead


async def last_error(bus: Bus, model: str) -> str:
    """The error header of the model's newest dead letter."""
    try:
        found = await streams.stored(bus, subjects.DEAD_STREAM, last_by_subj=subjects.dead(model))
    except ApiError:
        return "gone meanwhile"
    headers = base64.b64decode(found.get("hdrs", "")).decode(errors="replace")
    for line in headers.splitlines():
        name, _, value = line.partition(":")
        if name == "Headrace-Error":
            return value.strip()
    return "no error was kept"
