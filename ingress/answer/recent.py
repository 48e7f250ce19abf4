"""The requests that run, and those that ended lately, of all ingresses: what people look at.

Of a request that ends, what its line of the log says is kept, and rows are made of it when somebody
asks. Each ingress keeps its own, and is asked by the others.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count

import structlog

from ingress.answer.access_log import who
from ingress.jobs.custody import Tenure
from ingress.jobs.ended import Ended
from ingress.jobs.state import Times
from ingress.jobs.ticket import Ticket
from schemas import frames, subjects
from schemas import requests as words
from schemas.bus import Bus, BusError, Message
from schemas.errors import RequestCancelled
from schemas.jobs import CodecError
from schemas.requests import Question, Row, Told

log = structlog.get_logger("requests")

PATIENCE = 0.3
"""Seconds that those have to answer of whom nothing is known yet."""
LATE = 2.0
"""Seconds that those have to answer who were heard lately. Who has not answered then is not waited
for again, until it is heard."""
HEAD = 4096
"""Bytes of a message that are not its rows'."""
_EXPECTED = 60.0
"""Seconds for which an ingress that was heard is waited for."""
_NAMES = {"id": "request", "job": "id", "ms": "took", "queue_ms": "queued_for", "ttft_ms": "ttft"}
"""Of the fields of the log, those that are called otherwise in a row."""
_SECONDS = frozenset({"took", "queued_for", "ttft"})
"""Those that are in milliseconds in the log."""


@dataclass(slots=True)
class _Asking:
    """A question that waits for answers."""

    told: dict[str, Told] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)


class Recent:
    """`tickets`: of all requests that are not over, by job. `ended`: of those that are."""

    def __init__(
        self, bus: Bus, ingress: str, tickets: Mapping[str, Ticket], ended: Sequence[Ended]
    ) -> None:
        self._bus = bus
        self._ingress = ingress
        self._tickets = tickets
        self._ended = ended
        self._asking: dict[str, _Asking] = {}
        self._asked = count()
        self._seen: dict[str, float] = {}
        """When each ingress was heard last, by an answer or a question, in monotonic seconds."""
        self._left = False

    async def open(self) -> None:
        """Answer the others, and have each know of the other. Raises BusError."""
        await self._bus.subscribe(subjects.ASK_REQUESTS, self._answer)
        await self._bus.subscribe(f"{self._bus.inbox}.requests.*", self._hear)
        self._ask("hello", Question(most=1))

    def leave(self) -> None:
        """No request is left here: have nobody wait for an answer of this ingress."""
        self._left = True
        with suppress(BusError):  # then the others find out
            self._ask("bye", Question(most=1, leaves=True))

    def _ask(self, name: str, question: Question) -> None:
        asked = replace(question, ingress=self._ingress)
        self._bus.post(subjects.ASK_REQUESTS, asked.pack(), f"{self._bus.inbox}.requests.{name}")

    async def find(self, question: Question) -> tuple[list[Told], bool]:
        """What all ingresses say, and whether all did. Raises BusError."""
        name, since = str(next(self._asked)), time.monotonic()
        asking = self._asking[name] = _Asking()
        try:
            self._ask(name, question)
            with suppress(TimeoutError):
                async with asyncio.timeout(LATE):
                    await self._all(asking, time.monotonic() + PATIENCE)
        finally:
            del self._asking[name]
        silent = self._expected() - asking.told.keys()
        for each in silent:
            if self._seen.get(each, math.inf) <= since:
                del self._seen[each]
        return list(asking.told.values()), not silent

    async def cancel(self, job: str, account: str) -> bool:
        """End a request, wherever it runs; of that account only, unless it is empty. False if no
        ingress has it. Raises BusError, also if one that may have it did not answer."""
        found, whole = await self.find(Question(account, cancel=job))
        done = any(each.cancelled for each in found)
        if not done and not whole:
            raise BusError("not every ingress has answered")
        return done

    async def _all(self, asking: _Asking, until: float) -> None:
        """Wait for the answers of all who were heard lately, or for the one who has ended what is
        to end. If nobody else was heard, wait `until` then, as somebody may have come."""
        while not any(each.cancelled for each in asking.told.values()):
            whole = self._expected() <= asking.told.keys()
            left = until - time.monotonic()
            if whole and (len(self._seen) > 1 or left <= 0):
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(left if whole else None):
                    await asking.news.wait()
            asking.news.clear()

    def _expected(self) -> set[str]:
        """This ingress, and those that were heard lately."""
        since = time.monotonic() - _EXPECTED
        self._seen = {name: at for name, at in self._seen.items() if at > since}
        return {self._ingress, *self._seen}

    def _hear(self, message: Message) -> None:
        try:
            told = words.told(message.data)
        except CodecError as fault:
            log.warning("requests.not_told", error=str(fault))
            return
        self._seen[told.ingress] = time.monotonic()
        if (asking := self._asking.get(message.subject.rpartition(".")[2])) is not None:
            asking.told[told.ingress] = told
            asking.news.set()

    def _answer(self, message: Message) -> None:
        try:
            question = words.question(message.data)
        except CodecError as fault:
            log.warning("requests.not_asked", error=str(fault))
            return
        if question.leaves:
            self._forget(question.ingress)
            return
        if self._left:
            return
        if question.ingress:
            self._seen[question.ingress] = time.monotonic()
        with suppress(BusError):  # who asks asks again
            self._bus.post(message.reply, self._packed(question))

    def _forget(self, ingress: str) -> None:
        self._seen.pop(ingress, None)
        for asking in self._asking.values():
            asking.news.set()  # it may have been the last that was waited for

    def _packed(self, question: Question) -> bytes:
        """As many rows as the broker takes in one message: errors may be long."""
        now, room = time.monotonic(), self._bus.max_payload - HEAD
        data = self.told(question, now).pack()
        while len(data) > room and question.most > 1:
            question = replace(question, most=question.most // 2)
            data = self.told(question, now).pack()
        return data

    def told(self, question: Question, now: float) -> Told:
        """The answer of this ingress. It ends the request that is to end."""
        if question.cancel:
            return Told(self._ingress, cancelled=self._cancel(question))
        after, last = question.after.get(self._ingress, 0), 0
        ended: list[Row] = []
        for each in reversed(self._ended):
            last = last or each.number
            if each.number <= after or len(ended) == question.most:
                break
            if question.account in ("", each.account):
                ended.append(_row_of_ended(each))
        tickets = [t for t in self._tickets.values() if question.account in ("", t.job.account)]
        live = tuple(_row_of_live(ticket, now) for ticket in tickets[: question.most])
        return Told(self._ingress, last, tuple(reversed(ended)), live)

    def _cancel(self, question: Question) -> bool:
        ticket = self._tickets.get(question.cancel)
        if ticket is None or ticket.done or question.account not in ("", ticket.job.account):
            return False
        for job in ticket.job.ids:
            if (one := self._tickets.get(job)) is not None:
                one.fail(RequestCancelled("The request was cancelled."))
        return True


def _row_of_ended(one: Ended) -> Row:
    said = {_NAMES.get(name, name): value for name, value in one.line.items()}
    for name in _SECONDS & said.keys():
        said[name] = round(said[name] / 1000, 4)
    if (pace := _pace(said)) is not None:
        said["tokens_per_second"] = pace
    events = _timeline(one.times, one.lost, one.by)
    events.append(_event("ended", one.at - one.times.queued, one.line.get("error", "")))
    return _row(said, "ended", one.account, one.arrived, events)


def _pace(said: Row) -> float | None:
    """Tokens a second of an answer: of a stream behind its first token, else of all the time since
    somebody had the request. None if it has none, or they came at once."""
    streamed = bool(said["stream"])
    since, tokens = said.get("ttft" if streamed else "queued_for"), said.get("completion_tokens", 0)
    if since is None or tokens <= streamed or said["took"] <= since:
        return None
    return round(float((tokens - streamed) / (said["took"] - since)), 1)


def _row_of_live(ticket: Ticket, now: float) -> Row:
    job, times, received = ticket.job, ticket.times, ticket.received
    said = {
        "id": job.id,
        "key": job.key,
        "asked": job.asked,
        "model": job.model,
        "lane": subjects.lane_kind(job.lane),
        "endpoint": job.endpoint,
        "stream": job.stream,
        "attempts": ticket.tries,
        "took": round(now - times.queued, 4),
    }
    if times.claimed:
        said |= {"node": ticket.node or "", "queued_for": round(times.claimed - times.queued, 4)}
    if times.first:
        said["ttft"] = round(times.first - times.queued, 4)
    if frames.SERVED_BY in received.notes:
        said["served_by"] = received.notes[frames.SERVED_BY]
    state = "queued" if ticket.holder is None else "running"
    events = _timeline(times, ticket.custody.lost, who(ticket))
    return _row(said, state, job.account, job.arrived, events)


def _row(said: Row, state: str, account: str, arrived: int, events: list[Row]) -> Row:
    return {
        "object": "request",
        "state": state,
        "account": account,
        "arrived": arrived / 1000,
        **said,
        "timeline": events,
    }


def _timeline(times: Times, lost: Iterable[Tenure], by: str) -> list[Row]:
    """What happened until now, in order; times are seconds since the request came."""
    return sorted(_events(times, lost, by), key=lambda event: float(event["at"]))


def _events(times: Times, lost: Iterable[Tenure], by: str) -> Iterator[Row]:
    yield _event("queued", 0.0)
    for each in lost:
        who = "provider" if each.by_provider else f"node:{each.node}"
        yield _event("claimed", each.since - times.queued, who)
        yield _event("lost", each.until - times.queued, who)
    if by:
        yield _event("claimed", times.claimed - times.queued, by)
    if times.first:
        yield _event("first_token", times.first - times.queued, by)


def _event(what: str, at: float, by: str = "") -> Row:
    event: Row = {"at": round(at, 4), "event": what}
    return {**event, "by": by} if by else event
