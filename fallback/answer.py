"""Between a provider and the client: says who answered and what it cost, and keeps back what must
wait for the price.

A streamed answer passes from its first token on. What comes before that (a role, an empty block)
waits, so that a hedged worker does not lose to an announcement, and another provider can still
answer. The event that says that it is over waits until the call is settled, and follows the cost,
which is a comment: whoever has seen an end has been charged, and no error comes after it.

An answer that is not streamed is kept until it is whole: its head carries the cost, and another
provider can still answer if it breaks off in the middle.
"""

from __future__ import annotations

from fallback.attempt import Delivery
from schemas.api import sse
from schemas.api.base import PLAIN
from schemas.api.endpoints import APIS
from schemas.frames import COST, COST_LIMIT, SERVED_BY
from schemas.jobs import Job


class PricedAnswer:
    """The Sink of one call. `begun`: the client may have seen something of it."""

    def __init__(self, delivery: Delivery, job: Job, provider: str, limit: str) -> None:
        self._delivery = delivery
        self._provider = provider
        self._limit = limit
        self._streamed = job.stream
        self._passes = False
        """It is an answer that passes as it comes."""
        self._api = APIS.get(job.endpoint, PLAIN)
        self._head = (0, "")
        self._pieces: list[bytes] = []
        self._cost = ""
        self._end = b""
        self.begun = False
        self.touch, self.settle = delivery.touch, delivery.settle

    def start(self, status: int, content_type: str) -> None:
        self._head = status, content_type
        events = content_type.startswith(sse.CONTENT_TYPE)
        self._passes = self._streamed and status == 200 and events

    def data(self, chunk: bytes) -> None:
        if self.begun:
            self._forward(chunk)
            return
        self._pieces.append(chunk)
        if self._passes and self._api.begins(chunk):
            self._begin()
        else:
            self.touch()

    def offer(self, cost: str) -> None:
        """The answer is whole, and will cost this much: hand over what was kept back, all but the
        end of a stream. The call can be settled while the client reads."""
        if not self._passes:
            self._cost = cost
            self._delivery.note((SERVED_BY, f"provider:{self._provider}"), (COST, cost))
            self._delivery.start(*self._head)
            self._delivery.data(b"".join(self._pieces))
        elif not self.begun:
            self._begin()

    def seal(self, cost: str) -> None:
        """The call is settled: this much was charged."""
        if self._passes:
            self._delivery.note((COST, cost))
            self._delivery.data(sse.comment(f"{COST} {cost}") + self._end)
        elif cost != self._cost:
            self._delivery.note((COST, cost))

    def _begin(self) -> None:
        self.begun = True
        self._delivery.note((SERVED_BY, f"provider:{self._provider}"), (COST_LIMIT, self._limit))
        self._delivery.start(*self._head)
        self._forward(b"".join(self._pieces))
        self._pieces.clear()

    def _forward(self, chunk: bytes) -> None:
        """All but the end, which waits until the call is settled."""
        at = 0 if self._end else sse.end_of(chunk)
        if at < 0:
            self._delivery.data(chunk)
            return
        if at:
            self._delivery.data(chunk[:at])
        self._end += chunk[at:]
        self.touch()
