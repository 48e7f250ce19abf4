"""Answers the questions about credits that the ingress's admin API sends over the broker.

A question is a JSON object. One that reads is ``{"op": show | balances | history | usage, …}``;
grants are asked for elsewhere (`grants`). The answer is ``{"ok": …}`` or ``{"error": text, "kind":
invalid | insufficient | away}``.
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from typing import Any, Protocol

import orjson
import structlog

from fallback.credits.faults import Insufficient, LedgerError, Refused
from fallback.credits.ledger import Ledger
from schemas import bounds, tally
from schemas.bus import Bus, BusError, Message
from schemas.tally import Tally

log = structlog.get_logger("credits")

MOST = 10_000
"""Most entries of one answer, so that it fits into a message of the broker."""


class Clerk(Protocol):
    """Answers one kind of questions."""

    async def answer(self, asked: dict[str, Any]) -> Any:
        """Raises ValueError, TypeError, KeyError for what is no such question, Insufficient, and
        LedgerError."""


async def answer(clerk: Clerk, bus: Bus, message: Message) -> None:
    """Every question gets an answer, whatever it is."""
    try:
        data = orjson.dumps({"ok": await clerk.answer(question(message.data))})
        said: dict[str, Any] = {}
    except Insufficient as fault:
        said = {"error": str(fault), "kind": "insufficient"}
    except LedgerError as fault:
        said = {"error": str(fault), "kind": "away"}
    except Refused as fault:
        said = {"error": str(fault), "kind": "invalid"}
    except (ValueError, TypeError, KeyError, AttributeError) as fault:
        why = bounds.cut(str(fault))
        said = {"error": f"not a question about credits: {why}", "kind": "invalid"}
    except Exception as fault:  # else the asker would wait, and be told that no fallback runs
        log.error("credits.not_answered", exc_info=fault)
        said = {"error": f"a fault of the fallback: {type(fault).__name__}", "kind": "away"}
    if said:
        data = orjson.dumps(said)
    if len(data) > bus.max_payload:
        why = f"the answer has {len(data)} bytes, too many at once: ask for one account, for fewer "
        why += "entries or for a shorter time"
        data = orjson.dumps({"error": why, "kind": "invalid"})
    with contextlib.suppress(BusError):  # whoever gets no answer asks again
        bus.post(message.reply, data)


class Reader:
    """What is asked by any ingress: it changes nothing."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def answer(self, asked: dict[str, Any]) -> Any:
        ledger, account = self._ledger, asked.get("account", "")
        match asked["op"]:
            case "show":
                return asdict(await ledger.balance(account))
            case "balances":
                found = await ledger.balances(MOST + 1)  # who asks sees that there are more
                return [{"account": name, **asdict(has)} for name, has in found.items()]
            case "history":
                limit = asked.get("limit", 100)
                if not bounds.is_number(limit, MOST, 1):
                    raise ValueError(f"the limit is no number from 1 to {MOST}")
                entries = ledger.history(account, since=_since(asked), limit=limit)
                return [asdict(entry) async for entry in entries]
            case "usage":
                sums = Tally(tally.of(asked))
                async for each in ledger.purchases(since=sums.question.since, account=account):
                    sums.bought(asdict(each))
                return sums.rows()
        raise ValueError("no such operation")


def question(data: bytes) -> dict[str, Any]:
    """Raises ValueError for what is no question at all."""
    asked = orjson.loads(data)
    if not isinstance(asked, dict):
        raise ValueError("it is no object")
    if not bounds.is_text(asked.get("account", "")):
        raise ValueError(f"account is no text of up to {bounds.NAME} letters")
    return asked


def _since(asked: dict[str, Any]) -> float:
    since = asked.get("since", 0)
    if type(since) not in (int, float) or not 0 <= since <= bounds.WHOLE:
        raise ValueError("since is no time")
    return float(since)
