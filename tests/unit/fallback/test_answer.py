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


class EnvelopeSetup:
    def __init__(self, bus: FakeBus, stream: bool) -> None:
        self.bus = bus
        delivery = Attempt(bus, fakes.job(stream=stream), fakes.ack(), 2**20)
        self.envelope = Envelope(delivery, stream, "p", "0.5 USD")

    async def sent(self) -> list[tuple[Kind, object]]:
        await asyncio.sleep(0)
        found = [frame for post in self.bus.posts for frame in frames.unpack(post.payload)]
        self.bus.posts.clear()
        return [(Kind(frame.kind), frame.body) for frame in found]


async def test_a_stream_begins_with_its_first_token(bus: FakeBus) -> None:
    setup = EnvelopeSetup(bus, stream=True)
    setup.envelope.start(200, EVENTS)
    setup.envelope.data(ROLE)
    assert await setup.sent() == []
    assert not setup.envelope.begun
    setup.envelope.data(TOKEN)
    assert setup.envelope.begun
    assert await setup.sent() == [
        (Kind.NOTE, ((SERVED_BY, "provider:p"), (LIMIT, "0.5 USD"))),
        (Kind.START, (200, EVENTS)),
        (Kind.DATA, ROLE + TOKEN),
    ]
    setup.envelope.data(TOKEN)
    setup.envelope.offer("0.1 USD")
    setup.envelope.seal("0.1 USD")
    assert await setup.sent() == [
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
    setup = EnvelopeSetup(bus, stream=True)
    setup.envelope.start(200, EVENTS)
    for piece in (TOKEN + end,) if whole else (TOKEN, end):
        setup.envelope.data(piece)
    assert (Kind.DATA, TOKEN) in await setup.sent()
    setup.envelope.offer("0.1 USD")
    assert await setup.sent() == []
    setup.envelope.seal("0.1 USD")
    assert await setup.sent() == [
        (Kind.NOTE, ((COST, "0.1 USD"),)),
        (Kind.DATA, b": x-headrace-cost 0.1 USD\n\n" + end),
    ]


async def test_an_empty_stream_ends_once_it_is_paid(bus: FakeBus) -> None:
    setup = EnvelopeSetup(bus, stream=True)
    setup.envelope.start(200, EVENTS)
    setup.envelope.data(ROLE + b"data: [DONE]\n\n")
    assert [body for kind, body in await setup.sent() if kind == Kind.DATA] == [ROLE]
    setup.envelope.seal("0 USD")
    assert (await setup.sent())[-1] == (Kind.DATA, b": x-headrace-cost 0 USD\n\ndata: [DONE]\n\n")


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
    setup = EnvelopeSetup(bus, stream=True)
    setup.envelope.start(200, EVENTS)
    setup.envelope.data(event)
    assert setup.envelope.begun


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"type":"message_start","message":{"content":[],"usage":{}}}\n\n',
        b'data: {"type":"content_block_start","content_block":{"type":"text","text":""}}\n\n',
        b'data: {"type":"response.created","response":{"output":[]}}\n\n',
    ],
)
async def test_what_is_no_token_yet(bus: FakeBus, event: bytes) -> None:
    setup = EnvelopeSetup(bus, stream=True)
    setup.envelope.start(200, EVENTS)
    setup.envelope.data(event)
    assert not setup.envelope.begun


async def test_a_stream_without_a_token_is_handed_over_at_its_end(bus: FakeBus) -> None:
    setup = EnvelopeSetup(bus, stream=True)
    setup.envelope.start(200, EVENTS)
    setup.envelope.data(ROLE)
    setup.envelope.offer("0 USD")
    assert [kind for kind, _ in await setup.sent()] == [Kind.NOTE, Kind.START, Kind.DATA]


async def test_a_document_is_kept_until_its_cost_is_known(bus: FakeBus) -> None:
    setup = EnvelopeSetup(bus, stream=False)
    setup.envelope.start(200, "application/json")
    setup.envelope.data(b'{"a"')
    setup.envelope.data(b":1}")
    assert (await setup.sent(), setup.envelope.begun) == ([], False)
    setup.envelope.offer("0.2 USD")
    assert await setup.sent() == [
        (Kind.NOTE, ((SERVED_BY, "provider:p"), (COST, "0.2 USD"))),
        (Kind.START, (200, "application/json")),
        (Kind.DATA, b'{"a":1}'),
    ]
    setup.envelope.seal("0.2 USD")
    assert await setup.sent() == []
    setup.envelope.seal("0.0 USD")
    assert await setup.sent() == [(Kind.NOTE, ((COST, "0.0 USD"),))], "nothing was charged"


async def test_a_refusal_of_a_stream_is_a_document(bus: FakeBus) -> None:
    setup = EnvelopeSetup(bus, stream=True)
    setup.envelope.start(400, "application/json")
    setup.envelope.data(b"{}")
    setup.envelope.offer("0 USD")
    assert [kind for kind, _ in await setup.sent()] == [Kind.NOTE, Kind.START, Kind.DATA]
