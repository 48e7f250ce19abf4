"""The requests that one key may see, followed at an ingress: while somebody looks, and no oftener
than that needs."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import chain
from typing import Any

from deploy.console.edge import Edge, EdgeFault, part
from deploy.console.history import History
from schemas.keys import SCOPES
from schemas.requests import MOST_ROWS, Row

MOST, FEWER = 5000, 1000
"""Requests that are kept after their end: of the console's own key, and of another one. One takes
3.4 KB."""
MOST_KEYS = 16
"""Keys whose requests are kept when nobody looks; those that were used longest ago are dropped."""
FRESH = 1.5
"""Seconds for which an answer is new enough."""
_PATIENCE = 5.0
"""Seconds for an answer."""
_MAY_NOT = (401, 403)


class Seen:
    """Rows of ``GET /v1/requests``. `version` grows with each change. `skipped`: some ended that
    no answer had, as there were too many at once. `complete`: all ingresses had answered."""

    def __init__(self, most: int = MOST) -> None:
        self.version = 0
        self.skipped = False
        self.complete = True
        self.after = ""
        self._live: list[Row] = []
        self._ended: deque[Row] = deque(maxlen=most)

    def take(self, said: Mapping[str, Any]) -> list[Row]:
        """An answer. Returns the rows of those that ended since the one before."""
        rows = said["data"]
        live = [row for row in rows if row.get("state") != "ended"]
        ended = [row for row in rows if row.get("state") == "ended"]
        if ended or live != self._live or self.complete != said["complete"]:
            self.version += 1
        if self.after and len(ended) >= MOST_ROWS:
            self.skipped = True
        self.after, self.complete, self._live = said["after"], bool(said["complete"]), live
        self._ended.extend(reversed(ended))  # the oldest first
        return ended

    def __iter__(self) -> Iterator[Row]:
        """Those that wait or run, and then those that ended, the newest first."""
        return chain(self._live, reversed(self._ended))

    def __len__(self) -> int:
        return len(self._live) + len(self._ended)

    @property
    def live(self) -> int:
        return len(self._live)

    def find(self, id: str) -> Row | None:
        """By the id of its job."""
        return next((row for row in self if row.get("id") == id), None)


class Watch:
    """`edge`: asks with the key. `fault`: why the last answer did not come, "" if it did;
    `asked`: whether one came already."""

    def __init__(
        self, edge: Edge, most: int = MOST, clock: Callable[[], float] = time.time
    ) -> None:
        self._edge = edge
        self._most = most
        self._clock = clock
        self._turn = asyncio.Lock()
        self._at = float("-inf")
        self.seen = Seen(most)
        self.history = History()
        self.asked = False
        self.fault = ""

    async def look(self) -> None:
        """Ask, unless somebody did just now."""
        async with self._turn:  # several pages are one question
            if time.monotonic() - self._at < FRESH:
                return
            try:
                async with asyncio.timeout(_PATIENCE):
                    said = await self._edge.get(
                        "/v1/requests", after=self.seen.after or None, limit=MOST_ROWS
                    )
                now = self._clock()
                for row in self.seen.take(said):
                    self.history.add(row, now)
                self.asked, self.fault = True, ""
            except EdgeFault as fault:
                self._refused(fault)
            except (KeyError, TypeError, AttributeError):
                self.fault = "What answers is no ingress, or one of another release."
            except TimeoutError:
                self.fault = f"The ingress did not answer within {_PATIENCE:g} s."
            finally:
                self._at = time.monotonic()

    def _refused(self, fault: EdgeFault) -> None:
        self.fault = fault.told
        if fault.status in _MAY_NOT:  # what the key might see it may not see any more
            self.seen, self.history = Seen(self._most), History()

    async def cancel(self, job: str) -> None:
        """End a request. Raises EdgeFault."""
        await self._edge.delete(f"/v1/requests/{part(job)}")
        self._at = float("-inf")


class Watches:
    """One for each key with what it may do, so that several sessions and pages of it are one
    question."""

    def __init__(self) -> None:
        self._by_key: dict[str, Watch] = {}
        """The one that was used last stands at the end."""

    def of(self, edge: Edge, scopes: Collection[str] = SCOPES, most: int = FEWER) -> Watch:
        """`scopes`: of the key: what it saw as an admin it sees no more once it is none. `most`:
        requests that are kept, if there is none yet."""
        mine = " ".join((edge.digest, *sorted(scopes)))
        watch = self._by_key.pop(mine, None) or Watch(edge, most)
        self._by_key[mine] = watch
        while len(self._by_key) > MOST_KEYS:
            del self._by_key[next(iter(self._by_key))]
        return watch
