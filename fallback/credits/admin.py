"""Answers the questions about credits that the ingress's admin API sends over the broker.

A question is a JSON object ``{"op": show | grant | history | usage, …}``; the answer is
``{"ok": …}`` or ``{"error": text, "kind": invalid | insufficient | away}``.
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from typing import Any

import orjson
import structlog

from fallback.credits.faults import Insufficient, LedgerError
from fallback.credits.ledger import Ledger
from schemas.bus import Bus, BusError, Message
from schemas.usage import summed

log = structlog.get_logger("credits")

MOST = 10_000
"""Most entries of one answer, so that it fits into a message of the broker."""


async def answer(ledger: Ledger, bus: Bus, message: Message) -> None:
    try:
        said: dict[str, Any] = {"ok": await _answer(ledger, orjson.loads(message.data))}
    except Insufficient as fault:
        said = {"error": str(fault), "kind": "insufficient"}
    except LedgerError as fault:
        said = {"error": str(fault), "kind": "away"}
    except (ValueError, TypeError, KeyError, AttributeError) as fault:
        said = {"error": f"not a question about credits: {fault}", "kind": "invalid"}
    with contextlib.suppress(BusError):  # whoever gets no answer asks again
        bus.post(message.reply, orjson.dumps(said))


async def _answer(ledger: Ledger, asked: dict[str, Any]) -> Any:
    account = str(asked.get("account", ""))
    match asked["op"]:
        case "show":
            return asdict(await ledger.balance(account))
        case "grant":
            amount, id = int(asked["amount"]), str(asked.get("id", ""))
            balance = await ledger.grant(account, amount, str(asked.get("note", "")), id)
            log.info("credits.granted", account=account, amount=amount, by=asked.get("by"))
            return {"available": balance}
        case "history":
            limit = min(MOST, int(asked.get("limit", 100)))
            entries = ledger.history(account, since=float(asked.get("since", 0)), limit=limit)
            return [asdict(entry) async for entry in entries]
        case "usage":
            found = ledger.purchases(since=float(asked.get("since", 0)), account=account)
            return summed([asdict(each) async for each in found], asked.get("by") or ["model"])
    raise ValueError(f"no such operation: {asked['op']!r}")
