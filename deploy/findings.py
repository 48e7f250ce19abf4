"""Judges what ``headrace doctor`` sees. No I/O except reading the modes of files."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from deploy.nats.certificates import Certificate
from deploy.survey import Survey, addresses
from schemas import topology
from schemas.frames import Role
from schemas.jobs import VERSION
from schemas.nodes import Card
from schemas.settings import Engine
from workers.process import program

Level = Literal["ok", "warn", "fail"]

MAX_PAYLOAD = 2_000_000
"""Least `max_payload` of the broker, in bytes: a job with its body inline fits, and a frame."""
FREEZE = 6.0
"""Seconds after which the broker should have dropped a client that answers no ping."""
SKEW = 1.0
"""Most seconds by which clocks may differ, as deadlines are sent as wall-clock time."""
_PRIVATE = ("broker", "key", "logs", "broker/credentials")


@dataclass(frozen=True, slots=True)
class Finding:
    """`what`: one line; `mend`: what to do about it, "" if all is well or `what` says it."""

    level: Level
    what: str
    mend: str = ""


def programs(engines: Sequence[Engine]) -> Iterator[Finding]:
    """Whether the programs of the engines that a worker with these settings starts are here."""
    for engine in engines:
        if engine.command:
            try:
                path = program.found(os.path.expanduser(engine.command[0]))
            except program.ProcessFailed as fault:
                yield Finding(
                    "fail", f"engine {engine.name}: {fault}", "install it, or say its path"
                )
            else:
                yield Finding("ok", f"engine {engine.name} is started from {path}")


def places(data: Path) -> Iterator[Finding]:
    """Who can read and write where this user's Headrace lives. Raises OSError."""
    if not data.exists():
        yield Finding("ok", f"no data in {data} yet")
        return
    private = (path for name in _PRIVATE if (path := data / name).exists())
    wrong = [path for path in private if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)]
    # Others may look into the directory, as what is private in it is closed by itself.
    if data.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        wrong.insert(0, data)
    if wrong:
        names = " ".join(map(str, wrong))
        yield Finding("fail", f"others may use {names}", f"chmod -R go-rwx {data}")
    else:
        yield Finding("ok", f"data in {data}, closed to others")


def payload(size: int) -> Finding:
    if size >= MAX_PAYLOAD:
        return Finding("ok", f"messages of up to {size / 2**20:.3g} MiB")
    return Finding(
        "fail",
        f"the broker takes messages of {size} bytes at most",
        "set max_payload: 2MB in its configuration",
    )


def certificate(found: Certificate | None, url: str) -> Finding:
    """Of the broker at `url`, as it shows it."""
    if found is None:
        return Finding("warn", f"the certificate of {url} cannot be looked at")
    if fault := found.fault():
        mend = "the broker of 'headrace up' makes a new one when it starts; renew one of your own"
        level: Level = "warn" if fault.startswith("ends") else "fail"
        return Finding(level, f"the certificate of {url} {fault}", mend)
    return Finding("ok", f"the certificate of {url} is good until {found.ends:%Y-%m-%d}")


def pings(varz: dict[str, Any] | None) -> Finding:
    if varz is None:
        return Finding(
            "warn",
            "the broker's ping interval is not known: its system account is not ours to ask",
            'see that its configuration has ping_interval: "2s" and ping_max: 2',
        )
    interval, most = varz["ping_interval"] / topology.NS, varz["ping_max"]
    said = f"the broker pings every {interval:g} s and gives up after {most}"
    if interval * (most + 1) <= FREEZE:  # it gives up when the ping behind the last one is due
        return Finding("ok", said)
    return Finding(
        "warn",
        f"{said}: a frozen worker keeps what it was sent",
        'set ping_interval: "2s" and ping_max: 2',
    )


def compare(what: str, wanted: dict[str, Any], have: dict[str, Any] | None, maker: str) -> Finding:
    """`wanted` against what the broker has, which may have defaults of its own beside it."""
    if have is None:
        mend = f"{maker} makes it when it starts, if the broker has room for it"
        return Finding("fail", f"{what} is missing", mend)
    other = [key for key, value in wanted.items() if not _as_wanted(value, have.get(key))]
    if not other:
        return Finding("ok", f"{what} is as it should be")
    found = ", ".join(f"{key} {have.get(key)!r} and not {wanted[key]!r}" for key in other)
    return Finding(
        "fail",
        f"{what} differs: {found}",
        f"restart {maker}: it puts this right, unless it runs with other settings",
    )


def _as_wanted(wanted: Any, have: Any) -> bool:
    if isinstance(wanted, dict):  # the broker adds metadata of its own
        return isinstance(have, dict) and wanted.items() <= have.items()
    # The broker leaves out what is false or 0.
    return bool(wanted == have) or (not wanted and have is None)


def engines(cards: tuple[Card, ...]) -> Iterator[Finding]:
    if not cards:
        yield Finding("warn", "no worker is connected", "start one: headrace worker")
    for card in cards:
        paid = card.role == Role.FALLBACK
        mend = "see that it runs there"
        if paid:
            mend = "see its url, key and models; the log of the fallback has what it said"
        if card.protocol != VERSION:
            why = f"the {card.role} on {card.node} speaks version {card.protocol} of the protocol"
            yield Finding("warn", f"{why}: it gets no jobs", f"upgrade it: this is {VERSION}")
        for engine in card.engines:
            name = f"{'provider' if paid else 'engine'} {engine.name} on {card.node}"
            if engine.state == "ready" and engine.reason:
                yield Finding("warn", f"{name} is ready, but {engine.reason}")
            elif engine.state == "ready":
                yield Finding("ok", f"{name} is ready, {engine.slots} slots")
            elif engine.state == "failed":
                yield Finding("fail", f"{name} failed: {engine.reason}", mend)
            else:
                yield Finding("warn", f"{name} is {engine.state}", "look again in a moment")


def ingresses(seen: Survey) -> Finding:
    if not seen.ingresses:
        return Finding("warn", "no ingress is connected", "start one: headrace ingress")
    return Finding("ok", f"ingress at {', '.join(addresses(seen.ingresses))}")


def clock(ahead: float | None) -> Iterator[Finding]:
    """`ahead`: seconds by which the broker's clock is ahead of ours; None if it is not known."""
    if ahead is None:
        return
    if abs(ahead) < SKEW:
        yield Finding("ok", f"this clock and the broker's are {abs(ahead) * 1000:.0f} ms apart")
        return
    yield Finding(
        "warn",
        f"this clock and the broker's are {abs(ahead):.1f} s apart",
        "deadlines are wall-clock time: run a time service on both machines",
    )
