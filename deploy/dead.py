"""``headrace dead``: the requests whose last attempt failed, to look at, send again, or drop.

A letter is named by its place in the stream. What was asked is shown only on request, as it is the
text of a user.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from deploy import edge
from deploy.configure import CommandFailed, Where
from deploy.status import console, stamp, table
from deploy.survey import connected
from schemas import jobs, subjects, topology
from schemas.bus import ApiError, Bus, Message, NotFound
from schemas.jetstream import reading, streams
from schemas.jobs import CodecError, Job

_SILENCE = 600.0
"""Seconds without a byte after which a request that is sent again counts as lost."""


class DeadFailed(CommandFailed):
    """What was asked of a letter cannot be done; the message says why."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter. `job`: None if another version wrote it. `at`: Unix seconds."""

    place: int
    at: float
    model: str
    error: str
    job: Job | None

    @property
    def body(self) -> bytes:
        """What was asked. Raises DeadFailed if it was not kept."""
        if self.job is None:
            raise DeadFailed(f"{self.place}: another version of Headrace wrote it")
        if self.job.body_size:
            size = self.job.body_size
            raise DeadFailed(f"{self.place}: its body of {size} bytes was too large to be kept")
        return self.job.body

    def record(self) -> dict[str, Any]:
        """The letter without what was asked."""
        about = {"place": self.place, "time": stamp(self.at), "model": self.model}
        if (job := self.job) is not None:
            about |= {"job": job.id, "endpoint": job.endpoint, "stream": job.stream}
            about |= {"account": job.account, "key": job.key, "bytes": len(job.body)}
            about |= {"content_type": job.content_type}
        return {**about, "error": self.error}


async def show_all(where: Where, model: str, as_json: bool) -> None:
    """All letters, or those of one model, oldest first."""
    async with _admin(where) as bus:
        found = [letter async for letter in _letters(bus, model)]
    if as_json:
        print(orjson.dumps({"data": [letter.record() for letter in found]}).decode())
        return
    columns = (">place", "time (UTC)", "model", "endpoint", "account", "error")
    console().print(table(columns, map(_row, found)))


async def show(where: Where, place: int, with_body: bool) -> None:
    async with _admin(where) as bus:
        letter = await _letter(bus, place)
    console().print_json(orjson.dumps(letter.record()).decode())
    if with_body:
        print(letter.body.decode(errors="replace"))


async def drop(where: Where, places: Iterable[int]) -> None:
    """Drop letters, and say so of each. Raises DeadFailed if one is not there; the others are
    dropped all the same."""
    absent = []
    async with _admin(where) as bus:
        for place in places:
            try:
                await _drop(bus, place)
            except DeadFailed as fault:
                absent.append(str(fault))
            else:
                print(f"{place}: dropped")
    if absent:
        raise DeadFailed("\n".join(absent))


async def retry(where: Where, places: Iterable[int], url: str | None, key: str | None) -> None:
    """Send requests again as new ones, print the answers, and drop the letters of those that
    succeed. Raises DeadFailed if one does not, NoEdge if the ingress does not answer."""
    address, key = await edge.address(where, url), edge.key(where, url, key)
    failed = []
    async with _admin(where) as bus, edge.asking(address, key, _SILENCE) as session:
        for place in places:
            letter = await _letter(bus, place)
            if await _sent(session, address, letter):
                await _drop(bus, place)
            else:
                failed.append(str(place))
    if failed:
        raise DeadFailed(f"failed again, and kept: {', '.join(failed)}")


async def _sent(session: aiohttp.ClientSession, address: str, letter: Letter) -> bool:
    """Whether the request had its answer, which is printed."""
    body, job = letter.body, letter.job
    assert job is not None
    headers = {"content-type": job.content_type, "x-headrace-lenient": str(job.lenient).lower()}
    async with session.post(address + job.endpoint, data=body, headers=headers) as answer:
        print(f"{letter.place}: {answer.status}")
        async for piece in answer.content.iter_any():
            print(piece.decode(errors="replace"), end="", flush=True)
        print()
        return answer.status < 400


def _admin(where: Where) -> AbstractAsyncContextManager[Bus]:
    return connected(where.admin(), "headrace-dead")


async def _letters(bus: Bus, model: str) -> AsyncIterator[Letter]:
    subject = subjects.dead(model) if model else ""
    with contextlib.suppress(NotFound):  # without a stream there is no letter
        async for message in reading.read(bus, subjects.DEAD_STREAM, subject=subject):
            yield _read(message)


async def _letter(bus: Bus, place: int) -> Letter:
    """Raises DeadFailed."""
    with contextlib.suppress(NotFound):
        messages = reading.read(bus, subjects.DEAD_STREAM, after=place - 1)
        async with contextlib.aclosing(messages):  # its subscription ends with the block
            async for message in messages:
                if (found := _read(message)).place == place:
                    return found
                break  # the place is empty, and this is the next letter
    raise DeadFailed(f"{place}: there is no such letter (any more); see 'headrace dead list'")


async def _drop(bus: Bus, place: int) -> None:
    """Raises DeadFailed."""
    try:
        await streams.delete(bus, subjects.DEAD_STREAM, place)
    except ApiError as fault:
        await _letter(bus, place)  # there are many ways in which a broker says that it is not there
        raise DeadFailed(f"{place}: the broker did not drop it: {fault}") from None


def _read(message: Message) -> Letter:
    place, at = subjects.place_of(message.reply)
    try:
        job: Job | None = jobs.unpack(message.data)
    except CodecError:
        job = None
    told = message.headers or {}
    model = told.get("Headrace-Model") or subjects.decode(message.subject.partition(".")[2])
    error = told.get("Headrace-Error", "no error was kept")
    return Letter(place, at / topology.NS, model, error, job)


def _row(letter: Letter) -> Iterable[str]:
    job = letter.job
    about = (job.endpoint, job.account) if job else ("?", "?")
    return str(letter.place), stamp(letter.at), letter.model, *about, letter.error
