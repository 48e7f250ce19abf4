"""What an admitted request has taken of limits, until its answer is over."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from decimal import Decimal

import structlog

from ingress.jobs.ticket import Ticket
from ingress.limits import budgets
from ingress.limits.clock import SharedClock, steady
from ingress.limits.keeper import Keeper
from ingress.limits.share import Taken
from ingress.limits.terms import Cost
from schemas.errors import ClientGone
from schemas.frames import COST
from schemas.jetstream.alarm import Alarm
from schemas.limits import CONCURRENT, MICRO, TOKENS

log = structlog.get_logger("limits")

SUCCESS = 200
Taking = tuple[Keeper, Taken]


class Permit:
    """Whoever works for the request calls `enter`, and `leave` once it is done; the last one to
    leave settles. `prompt`: estimated tokens of it."""

    def __init__(
        self,
        takings: Sequence[Taking],
        cost: Cost,
        prompt: int,
        clock: SharedClock,
        alarm: Alarm | None = None,
    ) -> None:
        self._takings = takings
        self._cost = cost
        self._prompt = prompt
        self._clock = clock
        self._alarm = alarm
        self._began = time.monotonic()
        self._inside = 1
        self._queued = True
        self._tokens = 0
        self._micro = 0
        self._worked = False
        """Somebody began to work on it, or its client left before: the request counts."""
        log.debug("limits.admitted", at=steady())

    def enter(self, tickets: Sequence[Ticket]) -> None:
        """These are its jobs, or further ones."""
        self._inside += 1
        for ticket in tickets:
            ticket.custody.listen(self._left_queue)
            if ticket.custody.latest is not None:
                self._left_queue()

    def answered(self) -> None:
        """Its answer was there already, or is another one's: the request counts, and has no
        tokens."""
        self._worked = True
        self._left_queue()

    def leave(self, tickets: Sequence[Ticket] = ()) -> None:
        """These are over."""
        for ticket in tickets:
            received = ticket.received
            self._worked |= ticket.custody.latest is not None
            self._worked |= isinstance(received.error, ClientGone)
            self._tokens += used(ticket, self._prompt, self._cost.tokens // len(tickets))
            self._micro += micro(received.notes.get(COST, ""))
        self._inside -= 1
        if not self._inside:
            self._settle()

    def _left_queue(self) -> None:
        """A holder has the first of the jobs."""
        if self._queued:
            self._queued = False
            self._free(lambda gauge: gauge != CONCURRENT, 0.0)

    def _settle(self) -> None:
        log.debug("limits.settled", at=steady())
        seconds = time.monotonic() - self._began if self._worked else 0.0
        self._left_queue()
        self._free(lambda gauge: gauge == CONCURRENT, seconds)
        now = self._clock.now()
        for keeper, taken in self._takings:
            for meter in taken.meters:
                used = 0 if not self._worked else self._tokens if meter == TOKENS else 1
                keeper.share.settle(meter, used - self._cost.of(meter), taken.at, now)
            if keeper.share.terms.budgets and self._worked:
                keeper.share.spend(self._tokens, self._micro, now)
                if self._alarm is not None:
                    budgets.look(self._alarm, keeper, now)
            keeper.touch()

    def _free(self, which: Callable[[str], bool], seconds: float) -> None:
        now = self._clock.now()
        for keeper, taken in self._takings:
            for gauge in filter(which, taken.gauges):
                keeper.share.free(gauge, now, seconds)
                keeper.touch()


def used(ticket: Ticket, prompt: int, estimate: int) -> int:
    """Tokens of one job. If its engine did not count them, what was estimated; of an answer that
    broke off, the prompt and one token for each frame that came."""
    received = ticket.received
    refused = received.head is not None and received.head.status != SUCCESS
    if ticket.custody.latest is None or refused:
        return 0
    end = received.ended
    if end is None:
        holder = ticket.custody.holder
        return prompt + (holder.due if holder is not None else 0)
    if end.prompt_tokens < 0 and end.completion_tokens < 0:
        return estimate
    return max(0, end.prompt_tokens) + max(0, end.completion_tokens)


def micro(cost: str) -> int:
    """Millionths of what an answer did cost, from its header."""
    amount = cost.partition(" ")[0]
    return round(Decimal(amount) * MICRO) if amount else 0
