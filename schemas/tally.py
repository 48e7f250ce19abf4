"""Sums of usage by any combination of `GROUPS`, of what workers served and of what providers were
used for. Days and months are those of UTC. Pure."""

from __future__ import annotations

import operator
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from schemas import bounds, spans
from schemas.usage import Served

GROUPS = ("day", "month", "account", "key", "model", "node", "provider")
"""`node`: empty for what providers served, and for what was there already. `provider`: empty for
what workers served."""
SUMMED = (
    *("requests", "failed", "prompt", "completion", "cached", "images", "characters"),
    *("audio_seconds", "slot_seconds", "cost", "uncharged", "hits"),
)
"""`cost`: micro-units of the currency. `uncharged`: what calls cost beyond their reservations.
`hits`: requests that a kept answer did for."""
FOREVER = 1e11
"""Unix seconds of a time that does not come."""
_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Question:
    """Which usage is asked for: by which of `GROUPS`, from `since` until before `until` (Unix
    seconds), and of which account and key; "" means all. Raises ValueError for an empty span."""

    by: Sequence[str]
    since: float = 0.0
    until: float = FOREVER
    account: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        if self.until <= self.since:
            raise ValueError("it is not after since")

    def wants(self, account: str, key: str, at: float) -> bool:
        return (
            self.since <= at < self.until
            and self.account in ("", account)
            and self.key in ("", key)
        )

    def asked(self) -> dict[str, Any]:
        """The question as JSON has it; `of` reads it."""
        return asdict(self)


def of(asked: Mapping[str, Any]) -> Question:
    """Raises ValueError, TypeError or KeyError for anything but what `Question.asked` gave."""
    since, until = float(asked["since"]), float(asked["until"])
    return Question(grouped(",".join(asked["by"])), since, until, asked["account"], asked["key"])


class Tally:
    """Sums up what a question asks for."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self._rows: dict[tuple[str, ...], tuple[float, ...]] = {}

    def served(self, row: Served, written: float) -> None:
        """Count what workers served. `written`: when the row was, in Unix seconds; it belongs to
        its day also if it was written a moment after that."""
        start = _start(row.day)
        at = written if start is None else min(max(written, start), start + _DAY - 1)
        if self.question.wants(row.account, row.key, at):
            names = _named(row.day, row.account, row.key, row.model)
            names["node"] = row.node
            # In the order of `SUMMED`; a year has millions of rows.
            tokens = (row.prompt, row.completion, row.cached)
            media = (row.images, row.characters, row.audio)
            seconds = row.seconds, 0, 0
            self._add(names, (row.requests, row.failed, *tokens, *media, *seconds, row.hits))

    def bought(self, purchase: Mapping[str, Any]) -> None:
        """Count one call to a provider, as the journal of credits has it."""
        at = purchase["ended_ms"] / 1000
        if self.question.wants(purchase["account"], purchase["key"], at):
            names = (purchase["account"], purchase["key"], purchase["model"])
            self.add(
                {
                    **purchase,
                    **_named(datetime.fromtimestamp(at, UTC).date().isoformat(), *names),
                    "audio_seconds": purchase["seconds"],
                }
            )

    def add(self, row: Mapping[str, Any]) -> None:
        """Count a row with the fields that are asked for; fields that it lacks are empty, or 0."""
        self._add(row, tuple(row.get(name, 0) for name in SUMMED))

    def _add(self, names: Mapping[str, Any], more: tuple[float, ...]) -> None:
        key = tuple([names.get(name, "") for name in self.question.by])
        sums = self._rows.get(key)
        self._rows[key] = more if sums is None else tuple(map(operator.add, sums, more))

    def rows(self) -> list[dict[str, Any]]:
        """One row for each combination, in their order."""
        by = self.question.by
        return [
            {**dict(zip(by, key, strict=True)), **_summed(self._rows[key])}
            for key in sorted(self._rows)
        ]

    def total(self) -> dict[str, float]:
        rows = self._rows.values()
        return _summed(tuple(map(sum, zip(*rows, strict=True))) or (0,) * len(SUMMED))


def _named(day: str, account: str, key: str, model: str) -> dict[str, str]:
    return {"day": day, "month": day[:7], "account": account, "key": key, "model": model}


def _summed(sums: Sequence[float]) -> dict[str, float]:
    # What is written beyond 64 bits, nobody can write.
    return {
        name: round(min(found, bounds.WHOLE), 3) for name, found in zip(SUMMED, sums, strict=True)
    }


@lru_cache(maxsize=512)
def _start(day: str) -> float | None:
    """When a day begins; None for what is no day."""
    try:
        return datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def grouped(text: str) -> tuple[str, ...]:
    """The groups that ``day,key`` names. Raises ValueError."""
    found = tuple(name.strip() for name in text.split(",") if name.strip())
    if not found or set(found) - set(GROUPS) or len(set(found)) < len(found):
        raise ValueError(f"{text!r} is no list of {', '.join(GROUPS)}")
    return found


def moment(text: str, *, end: bool = False, now: float | None = None) -> float:
    """Unix seconds of ``7d``, ``12h`` ago, or of the beginning of a day ``2026-11-01`` or a month
    ``2026-11``; with `end`, of the end of that. Raises ValueError."""
    if (ago := spans.seconds(text)) is not None:
        return (time.time() if now is None else now) - ago
    for form, length in (("%Y-%m-%d", 1), ("%Y-%m", 31)):
        try:
            start = datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
        if not end:
            return start.timestamp()
        if start.year == 9999:  # the last one that there is
            return FOREVER
        after = start + timedelta(days=length)
        return (after if length == 1 else after.replace(day=1)).timestamp()
    raise ValueError(f"{text!r} is neither 7d, 12h, 30m nor a day as 2026-11-01 or a month 2026-11")
