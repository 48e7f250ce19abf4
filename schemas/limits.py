"""What is used of the limits of one key or account: one record, which all ingresses share. Pure.

A record is a msgpack array, and its subject holds the last one alone. An ingress reads it, and
writes the next if nobody else did in between. Times are milliseconds of the broker's clock. The
sums of a meter count every use for too long rather than too short, so that an ingress that goes by
them never admits too much: a use is noted with the latest moment at which it can have happened, and
what is given back with the earliest at which it can have been taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass, field, replace
from typing import Any

import msgpack

from schemas.jobs import CodecError

VERSION = 1
REQUESTS, TOKENS = "requests", "tokens"
"""The meters: what may be used in a window. Gauges have the names of what they bound, too: how many
there may be at once."""
CONCURRENT = "concurrent"
QUEUED = "queued"
MONTHLY_TOKENS, MONTHLY_CREDITS = "monthly_tokens", "monthly_credits"
MICRO = 1_000_000
"""Credits are counted in millionths."""
AHEAD = 10_000
"""Milliseconds that a stamp can be ahead of who reads it. One that is further ahead was made before
the broker's clock was set back, and counts as made now."""

Meter = dict[int, int]
"""Amounts by the moment until which they count as used; negative for what was given back."""


@dataclass(slots=True)
class Row:
    """What one ingress holds. `serial` counts its writes. It may use its `leases` of meters up to
    the moment `until`, and its places in `gauges` up to `alive`."""

    owner: str
    serial: int
    until: int = 0
    leases: dict[str, int] = field(default_factory=dict)
    alive: int = 0
    gauges: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Record:
    """`meters`: what was used, by the name of the meter. `rows`: what ingresses hold, by owner.
    `month`: months since the year 0, and what was used in it, `credits` in millionths."""

    meters: dict[str, Meter] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=dict)
    month: int = 0
    tokens: int = 0
    credits: int = 0

    def used(self, meter: str, but: str = "") -> Iterator[tuple[int, int]]:
        """(moment, amount) of all that was, or may be, used of a meter, without what the owner
        `but` may use."""
        yield from self.meters.get(meter, {}).items()
        for row in self.rows.values():
            if row.owner != but and (amount := row.leases.get(meter)):
                yield row.until, amount

    def total(self, meter: str) -> int:
        return sum(amount for _, amount in self.used(meter))

    def held(self, gauge: str) -> int:
        return sum(row.gauges.get(gauge, 0) for row in self.rows.values())

    def add(self, meter: str, uses: Meter, since: int) -> None:
        """Note uses, in place, but none before `since`."""
        found = self.meters.setdefault(meter, {})
        for moment, amount in uses.items():
            if moment >= since:
                found[moment] = found.get(moment, 0) + amount

    def aged(self, since: int, now: int) -> Record:
        """What of the record counts for a window that begins at `since`. `now`: the earliest moment
        that it may be."""
        return replace(
            self,
            meters={name: _aged(uses, since, now) for name, uses in self.meters.items()},
            rows={
                owner: found
                for owner, row in self.rows.items()
                if (found := _row(row, since, now)) is not None
            },
        )

    def pack(self) -> bytes:
        meters = {name: _packed(uses) for name, uses in self.meters.items() if uses}
        rows = [astuple(row) for row in self.rows.values()]
        fields = [VERSION, meters, rows, self.month, self.tokens, self.credits]
        return msgpack.packb(fields)  # type: ignore[no-any-return]


def _aged(uses: Meter, since: int, now: int) -> Meter:
    kept: Meter = {}
    for stamp, amount in uses.items():
        moment = _real(stamp, now)
        if moment >= since and amount:
            kept[moment] = kept.get(moment, 0) + amount
    return kept


def _real(moment: int, now: int) -> int:
    return moment if moment <= now + AHEAD else now


def _row(row: Row, since: int, now: int) -> Row | None:
    until, alive = _real(row.until, now), _real(row.alive, now)
    if until < since and alive < now:
        return None
    leases = row.leases if until >= since else {}
    gauges = row.gauges if alive >= now else {}
    return Row(row.owner, row.serial, until, leases, alive, gauges)


def _packed(uses: Meter) -> list[int]:
    """The first moment, then pairs of how much later, and the amount: half the bytes of a map."""
    base = min(uses)
    flat = [base]
    for moment, amount in uses.items():
        flat += (moment - base, amount)
    return flat


def unpack(data: bytes) -> Record:
    """Raises CodecError for anything but a record of this version."""
    try:
        version, meters, rows, *sums = msgpack.unpackb(data, strict_map_key=False)
        if version != VERSION:
            raise CodecError(f"a record of limits of version {version}, and this process has 1")
        month, tokens, credits = map(_whole, sums)
        found = {_text(name): _unpacked(flat) for name, flat in meters.items()}
        return Record(found, {row[0]: _read_row(*row) for row in rows}, month, tokens, credits)
    except (TypeError, ValueError, AttributeError, LookupError, msgpack.UnpackException) as fault:
        if isinstance(fault, CodecError):
            raise
        raise CodecError(f"not a record of limits: {fault}") from None


def _unpacked(flat: list[Any]) -> Meter:
    base, *pairs = map(_whole, flat)
    return {base + pairs[at]: pairs[at + 1] for at in range(0, len(pairs), 2)}


def _read_row(owner: Any, serial: Any, until: Any, leases: Any, alive: Any, gauges: Any) -> Row:
    held = [{_text(k): _whole(v) for k, v in each.items()} for each in (leases, gauges)]
    return Row(_text(owner), _whole(serial), _whole(until), held[0], _whole(alive), held[1])


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r:.40} is no whole number")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    return value
