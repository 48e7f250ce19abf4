"""Requests as rows of a table: what each cell says, and which rows a filter lets through. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Row = Mapping[str, Any]

PAGE = 50
"""Rows that are shown at once."""
NOTHING = "–"

STATES: Mapping[str, str] = {
    "all": "All",
    "live": "Waiting or running",
    "ended": "Ended",
    "failed": "Failed",
}
"""By which one may choose."""
_GOOD, _LEFT = "done", "client left"
_KEPT = "cache"
"""Who served a request whose answer was there already (`ingress/answer/access_log.py`)."""
_ENDS: Mapping[str, str] = {"client_gone": _LEFT, "request_cancelled": "cancelled"}
TONES: Mapping[str, str] = {
    "queued": "wait", "running": "run", _GOOD: "good", _LEFT: "off", "cancelled": "off",
}  # fmt: skip
"""How a state looks; any other failed."""


def state(row: Row) -> str:
    """In words: queued, running, done, or how it failed."""
    if row.get("state") != "ended":
        return str(row.get("state", ""))
    error, status = row.get("error"), row.get("status", 200)
    if error:
        return _ENDS.get(error, f"failed: {error}")
    return _GOOD if status < 400 else f"refused: {status}"


def tone(row: Row) -> str:
    return TONES.get(state(row), "bad")


def served_by(row: Row) -> str:
    """The node, ``provider openai``, or ``kept answer``; empty while nobody has it."""
    by = str(row.get("served_by") or "")
    if by.startswith("provider"):
        return by.replace(":", " ", 1)
    if by == _KEPT:
        return "kept answer"
    return str(row.get("node") or "")


def model(row: Row) -> str:
    """As the client named it, and what that led to."""
    asked, found = str(row.get("asked") or ""), str(row.get("model") or "")
    return found if asked in ("", found) else f"{asked} → {found}"


def cells(row: Row) -> dict[str, Any]:
    """What the table shows of a request. `at`: Unix seconds, which the browser says in its zone."""
    streamed = row.get("stream")
    waited = row.get("queued_for", row.get("took") if row.get("state") == "queued" else None)
    return {
        "id": row.get("id", ""),
        "at": row.get("arrived", 0),
        "state": state(row),
        "tone": tone(row),
        "key": row.get("key") or NOTHING,
        "model": model(row),
        "by": served_by(row) or NOTHING,
        "attempts": row.get("attempts", 0),
        "wait": seconds(waited),
        "ttft": seconds(row.get("ttft")) if streamed else NOTHING,
        "rate": rate(row.get("tokens_per_second")),
        "took": seconds(row.get("took")),
        "cost": cost(row),
    }


def chosen(rows: Iterable[Row], wanted: str, text: str) -> Iterator[Row]:
    """Those in one of `STATES` of which each word of `text` is somewhere."""
    words = text.lower().split()
    for row in rows:
        if _is_in(row, wanted) and (not words or _has(row, words)):
            yield row


def _is_in(row: Row, wanted: str) -> bool:
    ended = row.get("state") == "ended"
    if wanted == "failed":
        return ended and tone(row) == "bad"
    return wanted == "all" or ended == (wanted == "ended")


def _has(row: Row, words: list[str]) -> bool:
    named = (row.get(name) or "" for name in ("id", "request", "key", "account", "endpoint"))
    said = " ".join((*map(str, named), state(row), model(row), served_by(row))).lower()
    return all(word in said for word in words)


def seconds(found: Any) -> str:
    """``12 ms``, ``1.25 s``, ``83 s``."""
    if not isinstance(found, int | float):
        return NOTHING
    if found < 0.9995:
        return f"{found * 1000:.0f} ms"
    return f"{found:.2f} s" if found < 10 else f"{found:.0f} s"


def rate(found: Any) -> str:
    return f"{found:.1f}" if isinstance(found, int | float) else NOTHING


def cost(row: Row) -> str:
    """In dollars; what nodes serve costs nothing, nor what was kept."""
    if found := row.get("cost"):
        return f"${found}"
    free = row.get("node") or row.get("served_by") == _KEPT
    return "$0" if free and row.get("state") == "ended" else NOTHING


def facts(row: Row) -> list[tuple[str, str]]:
    """What is said of one request beside its timeline."""
    shown = cells(row)
    found = [
        ("State", shown["state"]),
        ("Why", str(row.get("why") or "")),
        ("Key", str(row.get("key") or "")),
        ("Account", str(row.get("account") or "")),
        ("Model", shown["model"]),
        ("Endpoint", str(row.get("endpoint") or "") + (", streamed" if row.get("stream") else "")),
        ("Served by", served_by(row)),
        ("Lane", str(row.get("lane") or "")),
        ("Attempts", str(row.get("attempts", ""))),
        ("Waited", shown["wait"]),
        ("First token", shown["ttft"]),
        ("Tokens", _tokens(row)),
        ("Tokens/s", shown["rate"]),
        ("Took", shown["took"]),
        ("Cost", shown["cost"]),
        ("Request", str(row.get("request") or "")),
        ("Job", str(row.get("id") or "")),
    ]
    return [(name, said) for name, said in found if said not in ("", NOTHING)]


def _tokens(row: Row) -> str:
    """``12 in (8 cached), 40 out``."""
    parts = []
    if "prompt_tokens" in row:
        cached = f" ({row['cached_tokens']} cached)" if row.get("cached_tokens") else ""
        parts.append(f"{row['prompt_tokens']} in{cached}")
    if "completion_tokens" in row:
        parts.append(f"{row['completion_tokens']} out")
    return ", ".join(parts)
