"""Who makes an answer, who only reads it, and what becomes of one whose maker is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

import orjson
import pytest
from starlette.requests import Request
from starlette.responses import Response

from ingress.http import held
from ingress.http.held import Bodies, Budget
from ingress.http.protocol import BEGUN, CLIENT_GONE
from ingress.http.streamed import EventStream
from ingress.idempotency import player as players
from ingress.idempotency.follower import Follower
from ingress.idempotency.player import Player
from ingress.idempotency.recording import Head, Recording
from ingress.idempotency.run import Run
from ingress.idempotency.store import AnswerStore, Overtaken, Part, Stored
from schemas import errors, settings
from schemas.api import sse
from schemas.bus import BusError
from tests.unit import fakes

NAME, DIGEST = "k", b"digest"
EVENTS = [sse.dump({"n": number}) for number in range(5)]
SERVED = {"x-headrace-served-by": "node:a", "content-type": "text/event-stream"}
Serve = Callable[[Request], Awaitable[Response]]


class FakeStore(AnswerStore):
    """The stream of one key, in this process."""

    def __init__(self) -> None:
        super().__init__(fakes.FakeBus())
        self.parts: list[tuple[Part, bytes]] = []
        self.away = False

    async def append(self, name: str, after: int, part: Part, data: bytes = b"") -> int:
        await asyncio.sleep(0)
        if self.away:
            raise BusError("away")
        if after != len(self.parts):
            raise Overtaken(name)
        self.parts.append((part, data))
        return len(self.parts)

    async def read(self, name: str, after: int) -> AsyncGenerator[Stored, None]:
        for place, (part, data) in enumerate(self.parts[after:], after + 1):
            yield Stored(place, part, data)

    @property
    def kinds(self) -> list[Part]:
        return [part for part, _ in self.parts]


def request() -> Request:
    scope = {
        "type": "http", "method": "POST", "path": "/v1/chat/completions", "query_string": b"",
        "headers": [(b"idempotency-key", b"k"), (b"content-encoding", b"gzip")],
        "scheme": "http", "server": ("a", 80), "state": {"id": "req-1"},
    }  # fmt: skip
    return Request(scope)


def run(serve: Serve) -> Run:
    asked = request()
    Bodies(settings.Ingress()).hold(asked, "k")
    return Run(asked, b"{}", serve)


def streaming(*events: bytes) -> Serve:
    async def serve(asked: Request) -> Response:
        assert await asked.body() == b"{}"
        assert "content-encoding" not in asked.headers

        async def pieces() -> AsyncIterator[bytes]:
            for event in events:
                yield event
                yield sse.comment("keep-alive")

        return EventStream(pieces(), headers=SERVED)

    return serve


async def never(asked: Request) -> Response:
    raise AssertionError("it was answered already")


def recorded(digest: bytes = DIGEST) -> Recording:
    return Recording(digest, Bodies(settings.Ingress()).hold(request(), "k"))


async def play(store: AnswerStore, serve: Serve) -> Recording:
    recording = recorded()
    await Player(store, NAME, recording, run(serve)).play()
    return recording


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in {"POLL": 0.001, "SILENT": 0.02, "GATHER": 0.0, "STILL": 0.005}.items():
        monkeypatch.setattr(players, name, seconds)


async def test_the_first_makes_it_and_the_second_reads_it() -> None:
    store = FakeStore()
    made = await play(store, streaming(*EVENTS))
    assert (made.whole, made.made_here, made.parts) == (True, True, EVENTS)
    assert store.kinds[:3] == [Part.OPEN, Part.HEAD, Part.BODY]
    assert store.kinds[-1] == Part.END
    read = await play(store, never)
    assert (read.whole, read.made_here, read.parts) == (True, False, EVENTS)
    assert read.head is not None
    assert read.head.headers["x-headrace-served-by"] == "node:a"


async def test_another_digest_is_a_conflict() -> None:
    store = FakeStore()
    await play(store, streaming(*EVENTS))
    other = recorded(b"another")
    await Player(store, NAME, other, run(never)).play()
    assert isinstance(other.error, errors.IdempotencyConflict)


async def left_behind(store: FakeStore, torn: bytes = b"", **headers: str) -> None:
    """What an ingress has stored that was killed: two events, and a part of the next."""
    head = orjson.dumps([200, {**SERVED, **headers}, False])
    body = b"".join(EVENTS[:2]) + torn
    store.parts = [(Part.OPEN, DIGEST), (Part.HEAD, head), (Part.BODY, body)]


async def test_who_takes_over_goes_on_behind_the_last_whole_event() -> None:
    store = FakeStore()
    await left_behind(store, torn=EVENTS[2][:5])

    async def serve(asked: Request) -> Response:
        assert asked.scope["state"][BEGUN] == b"".join(EVENTS[:2])
        return await streaming(*EVENTS[2:])(asked)

    taken = await play(store, serve)
    assert (taken.whole, taken.begun_anew, taken.parts) == (True, 0, EVENTS)
    assert (await play(store, never)).parts == EVENTS


@pytest.mark.parametrize("served", ["node:a", "openai"])
async def test_what_cannot_go_on_begins_anew(served: str) -> None:
    """A provider's part is never continued, as two would be paid for one answer."""
    store = FakeStore()
    await left_behind(store, b"", **{"x-headrace-served-by": served})

    async def serve(asked: Request) -> Response:
        if BEGUN in asked.scope["state"]:
            assert served == "node:a"
            raise errors.StreamInterrupted("cannot go on")
        return await streaming(*EVENTS[::-1])(asked)

    taken = await play(store, serve)
    assert (taken.whole, taken.begun_anew, taken.parts) == (True, 1, EVENTS[::-1])
    assert (await play(store, never)).parts == EVENTS[::-1]


async def test_what_broke_off_may_be_made_again() -> None:
    store = FakeStore()
    failure = sse.dump({"error": {"message": "lost", "code": "stream_interrupted"}})
    first = await play(store, streaming(EVENTS[0], failure))
    assert (first.whole, first.over, store.kinds[-1]) == (False, True, Part.BROKEN)

    async def refuse(asked: Request) -> Response:
        raise errors.QueueFull("full")

    again = FakeStore()
    assert isinstance((await play(again, refuse)).error, errors.QueueFull)
    assert again.kinds == [Part.OPEN, Part.BROKEN]
    assert (await play(again, streaming(*EVENTS))).whole


async def test_a_maker_that_was_overtaken_stops_and_says_so() -> None:
    store, gone = FakeStore(), asyncio.Event()

    async def serve(asked: Request) -> Response:
        asked.scope["state"][CLIENT_GONE] = gone.set
        store.parts += [(Part.OPEN, DIGEST)]

        async def pieces() -> AsyncIterator[bytes]:
            yield EVENTS[0]
            await gone.wait()

        return EventStream(pieces(), headers=SERVED)

    recording = await play(store, serve)
    assert isinstance(recording.error, errors.StreamInterrupted)
    assert store.kinds == [Part.OPEN, Part.OPEN], "it has written nothing more"


async def test_a_broker_that_goes_away_costs_the_keeping_and_not_the_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(players, "PATIENCE", 0.0)
    store = FakeStore()

    async def serve(asked: Request) -> Response:
        store.away = True
        return await streaming(*EVENTS)(asked)

    assert (await play(store, serve)).parts == EVENTS
    store.parts = []
    assert isinstance((await play(store, never)).error, errors.BrokerUnavailable)


async def test_a_fault_of_ours_is_told_and_leaves_the_key_free() -> None:
    store = FakeStore()

    async def serve(asked: Request) -> Response:
        raise ZeroDivisionError

    assert isinstance((await play(store, serve)).error, errors.Internal)
    assert store.kinds[-1] == Part.BROKEN


async def followed(recording: Recording, after: int = 0) -> list[bytes]:
    response = await Follower(request(), recording, after).response(9.0)
    assert isinstance(response, EventStream)
    pieces = [piece async for piece in response.body_iterator]
    return list(sse.split(b"".join(map(bytes, pieces))))  # type: ignore[arg-type]


async def test_a_client_that_has_a_part_is_told_if_all_begins_anew() -> None:
    recording = recorded()
    recording.begin(Head(200, SERVED))
    await recording.add(b"".join(EVENTS[:2]))
    has, hears = (asyncio.create_task(followed(recording, after)) for after in (2, 0))
    await asyncio.sleep(0)
    recording.begin(Head(200, SERVED))
    await recording.add(EVENTS[3])
    recording.end(whole=True)
    for told in ((await has)[0], (await hears)[2]):
        assert (sse.object_of(told) or {})["error"]["code"] == "stream_interrupted"
    assert await followed(recording) == [b"id: 1\n" + EVENTS[3].strip()]


async def test_who_nobody_listens_to_is_told() -> None:
    heard: list[str] = []
    recording = recorded()
    recording.unheard = lambda: heard.append("nobody")
    asked = request()
    waiting = asyncio.create_task(Follower(asked, recording, 0).response(9.0))
    await asyncio.sleep(0)
    asked.scope["state"][CLIENT_GONE]()
    with pytest.raises(errors.ClientGone):
        await waiting
    assert heard == ["nobody"]


def bodies() -> Bodies:
    """With room for 1,024 bytes."""
    found = Bodies(settings.Ingress(max_body=1024))
    found.memory = Budget(1024, 1024)
    return found


async def test_an_answer_has_room_until_it_is_stored_and_read() -> None:
    room = bodies()
    recording = Recording(DIGEST, room.hold(request(), "k"))
    await Player(FakeStore(), NAME, recording, run(streaming(b"data: %b\n\n" % bytes(1000)))).play()
    recording.join()
    recording.close()
    assert not room.memory.take("other", 100)
    assert len(recording.parts) == 1
    recording.leave()
    assert room.memory.take("other", 1024)
    assert recording.parts == []


async def test_an_answer_for_which_there_is_no_room_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(held, "PATIENCE", 0.01)
    ended = asyncio.Event()

    async def serve(_: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"data: %b\n\n" % bytes(100)
            finally:
                ended.set()

        return EventStream(pieces(), headers=SERVED)

    store, room = FakeStore(), bodies()
    recording = Recording(DIGEST, room.hold(request(), "k"))
    await Player(store, NAME, recording, run(serve)).play()
    assert isinstance(recording.error, errors.OutOfRoom)
    assert ended.is_set()
    assert store.kinds[-1] == Part.BROKEN
    recording.close()
    assert room.memory.take("k", 1024)


async def test_one_that_another_makes_has_room_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "PATIENCE", 0.01)
    store, room = FakeStore(), bodies()
    await play(store, streaming(*[b"data: %b\n\n" % bytes(100)] * 20))
    recording = Recording(DIGEST, room.hold(request(), "k"))
    await Player(store, NAME, recording, run(never)).play()
    assert isinstance(recording.error, errors.OutOfRoom)
