from __future__ import annotations

import asyncio

import pytest

from fallback.answer import COST, LIMIT, SERVED_BY, Envelope
from schemas import frames
from schemas.frames import Kind
from tests.unit import fakes
from tests.unit.fakes import FakeBus
from workers.attempt import Attempt

EVENTS = "text/event-stream"
ROLE = b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
TOKEN = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'


class Post:
    def __init__(self, bus: FakeBus, stream: bool) -> None:
        self.bus = bus
        self.envelope = Envelope(
            Attempt(bus, fakes.job(stream=stream), fakes.ack(), 2**20), "p", "0.5 USD"
        )

    async def sent(self) -> list[tuple[Kind, object]]:
        await asyncio.sleep(0)
        found = [frame for post in self.bus.posts for frame in frames.unpack(post.payload)]
        self.bus.posts.clear()
        return [(Kind(frame.kind), frame.body) for frame in found]


async def test_a_stream_begins_with_its_first_token(bus: FakeBus) -> None:
    post = Post(bus, stream=True)
    post.envelope.start(200, EVENTS)
    post.envelope.data(ROLE)
    assert await post.sent() == []
    assert not post.envelope.begun
    post.envelope.data(TOKEN)
    assert post.envelope.begun
    assert await post.sent() == [
        (Kind.NOTE, ((SERVED_BY, "provider:p"), (LIMIT, "0.5 USD"))),
        (Kind.START, (200, EVENTS)),
        (Kind.DATA, ROLE + TOKEN),
    ]
    post.envelope.data(TOKEN)
    post.envelope.offer("0.1 USD")
    post.envelope.seal("0.1 USD")
    assert await post.sent() == [
        (Kind.DATA, TOKEN),
        (Kind.NOTE, ((COST, "0.1 USD"),)),
        (Kind.DATA, b": x-headrace-cost 0.1 USD\n\n"),
    ]


@pytest.mark.parametrize(
    "end",
    [
        b"data: [DONE]\n\n",
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
        b'event: response.completed\ndata: {"type":"response.completed"}\n\n',
        b'event: response.incomplete\ndata: {"type":"response.incomplete"}\n\n',
    ],
)
@pytest.mark.parametrize("whole", [False, True])
async def test_the_end_waits_for_the_books(bus: FakeBus, end: bytes, whole: bool) -> None:
    """Who dies meanwhile is not paid, and the client is told that its answer broke."""
    post = Post(bus, stream=True)
    post.envelope.start(200, EVENTS)
    for piece in (TOKEN + end,) if whole else (TOKEN, end):
        post.envelope.data(piece)
    assert (Kind.DATA, TOKEN) in await post.sent()
    post.envelope.offer("0.1 USD")
    assert await post.sent() == []
    post.envelope.seal("0.1 USD")
    assert await post.sent() == [
        (Kind.NOTE, ((COST, "0.1 USD"),)),
        (Kind.DATA, b": x-headrace-cost 0.1 USD\n\n" + end),
    ]


async def test_an_empty_stream_ends_once_it_is_paid(bus: FakeBus) -> None:
    post = Post(bus, stream=True)
    post.envelope.start(200, EVENTS)
    post.envelope.data(ROLE + b"data: [DONE]\n\n")
    assert [body for kind, body in await post.sent() if kind == Kind.DATA] == [ROLE]
    post.envelope.seal("0 USD")
    assert (await post.sent())[-1] == (Kind.DATA, b": x-headrace-cost 0 USD\n\ndata: [DONE]\n\n")


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"choices":[{"delta":{"reasoning_content":"hm"}}]}\n\n',
        b'data: {"choices":[{"delta":{"tool_calls":[{"function":{"name":"f"}}]}}]}\n\n',
        b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"x"}}\n\n',
        b'data: {"type":"response.output_text.delta","delta":"x"}\n\n',
        b'data: {"error":{"message":"gone"}}\n\n',
        b"data: [DONE]\n\n",
    ],
)
async def test_what_counts_as_a_beginning(bus: FakeBus, event: bytes) -> None:
    post = Post(bus, stream=True)
    post.envelope.start(200, EVENTS)
    post.envelope.data(event)
    assert post.envelope.begun


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"type":"message_start","message":{"content":[],"usage":{}}}\n\n',
        b'data: {"type":"content_block_start","content_block":{"type":"text","text":""}}\n\n',
        b'data: {"type":"response.created","response":{"output":[]}}\n\n',
    ],
)
async def test_what_is_no_token_yet(bus: FakeBus, event: bytes) -> None:
    post = Post(bus, stream=True)
    post.envelope.start(200, EVENTS)
    post.envelope.data(event)
    assert not post.envelope.begun


async def test_a_stream_without_a_token_is_handed_over_at_its_end(bus: FakeBus) -> None:
    post = Post(bus, stream=True)
    post.envelope.start(200, EVENTS)
    post.envelope.data(ROLE)
    post.envelope.offer("0 USD")
    assert [kind for kind, _ in await post.sent()] == [Kind.NOTE, Kind.START, Kind.DATA]


async def test_a_document_is_kept_until_its_cost_is_known(bus: FakeBus) -> None:
    post = Post(bus, stream=False)
    post.envelope.start(200, "application/json")
    post.envelope.data(b'{"a"')
    post.envelope.data(b":1}")
    assert (await post.sent(), post.envelope.begun) == ([], False)
    post.envelope.offer("0.2 USD")
    assert await post.sent() == [
        (Kind.NOTE, ((SERVED_BY, "provider:p"), (COST, "0.2 USD"))),
        (Kind.START, (200, "application/json")),
        (Kind.DATA, b'{"a":1}'),
    ]
    post.envelope.seal("0.2 USD")
    assert await post.sent() == []
    post.envelope.seal("0.0 USD")
    assert await post.sent() == [(Kind.NOTE, ((COST, "0.0 USD"),))], "nothing was charged"


async def test_a_refusal_of_a_stream_is_a_document(bus: FakeBus) -> None:
    post = Post(bus, stream=True)
    post.envelope.start(400, "application/json")
    post.envelope.data(b"{}")
    post.envelope.offer("0 USD")
    assert [kind for kind, _ in await post.sent()] == [Kind.NOTE, Kind.START, Kind.DATA]
