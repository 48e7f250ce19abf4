"""Which engine of a model is asked first, if slots of several are free: the faster one.

Workers measure how fast their engines are, and say so on their cards. An ingress puts the engines
of a model in order, and tells each worker with which rank to ask the broker for jobs, which serves
the lowest rank first. All ingresses see the same cards, so they say the same.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from itertools import groupby

from ingress.models.catalog import Catalog
from schemas import ranks, subjects
from schemas.bus import Bus, BusError
from schemas.frames import Op, Role, pack_control
from schemas.nodes import LAST_RANK, UNRANKED, ServedModel
from schemas.ranks import Rank

EACH = 1.0
"""Seconds between two looks: cards come so often."""
SELDOM = 20
"""A look that takes long is followed by a pause so many times as long."""
_TURN = 64
"""Cards that are read in one turn of the event loop."""
APART, CLOSE = 1.25, 1.15
"""How much slower an engine gets a rank behind another, and how near it must come to be beside it
again. What is measured varies by a few percent, and no rank is to change with that."""
PROMPT, ANSWER = 512, 128
"""Tokens of a job by which engines are compared."""


def order(engines: Sequence[ServedModel]) -> list[int]:
    """The rank of each of these engines of one model. First counts what their operators say, then
    how fast they are. One of which that is not known is with the fastest: so it becomes known."""
    found = [0] * len(engines)
    first = 0
    by_priority = sorted(range(len(engines)), key=lambda at: engines[at].priority)
    for _, group in groupby(by_priority, key=lambda at: engines[at].priority):
        first = 1 + _rank(engines, list(group), found, first)
    return found


def _rank(
    engines: Sequence[ServedModel], group: Sequence[int], found: list[int], first: int
) -> int:
    """Rank a group from `first` on. Returns its last rank."""
    seconds = _seconds([engines[at] for at in group])
    rank, head, ahead = first, 0, UNRANKED
    for took, at in sorted(zip(seconds, group, strict=True)):
        limit = CLOSE if engines[at].rank > ahead else APART
        if head and took > head * limit:
            rank, head = rank + 1, 0
        if not head:
            head, ahead = took, engines[at].rank
        found[at] = min(rank, LAST_RANK)
    return rank


def _seconds(engines: Sequence[ServedModel]) -> list[int]:
    """What a job takes at each, in millionths; 0 if that is not known, or not by what is known of
    the others."""
    counted = [each for each in engines if each.token_us]
    if not counted:
        return [each.request_us for each in engines]
    prompt = PROMPT if all(each.prompt_us for each in counted) else 0
    return [
        each.token_us * ANSWER + each.prompt_us * prompt if each.token_us else 0 for each in engines
    ]


class Ranks:
    """Tells workers their ranks, as long as their cards show others."""

    def __init__(self, bus: Bus, catalog: Catalog) -> None:
        self._bus = bus
        self._catalog = catalog

    async def run(self) -> None:
        while True:
            began = time.monotonic()
            # Who has heard some cards alone would say what is not so.
            if self._bus.connected and not self._catalog.nodes.incomplete:
                await self.tell()
            await asyncio.sleep(max(EACH, (time.monotonic() - began) * SELDOM))

    async def tell(self) -> None:
        for holder, wanted in (await self._wanted()).items():
            for at in range(0, len(wanted), ranks.MOST):
                said = pack_control(Op.RANK, "", 0, given=ranks.pack(wanted[at : at + ranks.MOST]))
                with suppress(BusError):  # the card will show that it was not heard
                    self._bus.post(subjects.control(holder), said)

    async def _wanted(self) -> dict[str, list[Rank]]:
        """By holder, what is to change."""
        found = defaultdict[str, list[Rank]](list)
        for model, places in (await self._places()).items():
            ranked = order([served for _, served in places])
            for (holder, served), rank in zip(places, ranked, strict=True):
                if served.rank not in (rank, UNRANKED) and len(places) > 1:
                    found[holder].append(Rank(served.engine, model, rank))
            await asyncio.sleep(0)
        return found

    async def _places(self) -> dict[str, list[tuple[str, ServedModel]]]:
        """The engines of each model, with their holders. A thousand workers may have many models
        each, so others have their turns meanwhile."""
        found = defaultdict[str, list[tuple[str, ServedModel]]](list)
        for at, card in enumerate(self._catalog.cards()):
            if card.role != Role.FALLBACK:
                for served in card.models:
                    found[served.id].append((card.holder, served))
            if at % _TURN == 0:
                await asyncio.sleep(0)
        return found
