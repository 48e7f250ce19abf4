from __future__ import annotations

import asyncio

import pytest

from fallback.credits.billing import PricedAnswer
from schemas import frames
from schemas.api import endpoints
from schemas.api.endpoints import Endpoint
from schemas.frames import COST, COST_LIMIT, SERVED_BY, Kind
from tests.unit import fakes
from tests.unit.fakes import FakeBus
from workers.attempt import Attempt

EVENTS = "text/event-stream"
ROLE = b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
TOKEN = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'


class PricedAnswerSetup:
    def __init__(self, bus: FakeBus, stream: bool, endpoint: Endpoint = endpoints.CHAT) -> None:
        self.bus = bus
        job = fakes.job(stream=stream, endpoint=endpoint.path)
        delivery = Attempt(bus, fakes.HOLDER, job, fakes.ack(), 2**20)
        self.answer = PricedAnswer(delivery, job, "p", "0.5 USD")

    async def sent(self) -> list[tuple[Kind, object]]:
        await asyncio.sleep(0)
        found = [frame for post in self.bus.posts for frame in frames.unpack(post.payload)]
        self.bus.posts.clear()
        return [(Kind(frame.kind), frame.body) for frame in found]


async def test_a_stream_begins_with_its_first_token(bus: FakeBus) -> None:
    setup = PricedAnswerSetup(bus, stream=True)
    setup.answer.start(200, EVENTS)
    setup.answer.data(ROLE)
    assert await setup.sent() == []
    assert not setup.answer.begun
    setup.answer.data(TOKEN)
    assert setup.answer.begun
    assert await setup.sent() == [
        (Kind.NOTE, ((SERVED_BY, "provider:p"), (COST_LIMIT, "0.5 USD"))),
        (Kind.START, (200, EVENTS)),
        (Kind.DATA, ROLE + TOKEN),
    ]
    setup.answer.data(TOKEN)
    setup.answer.offer("0.1 USD")
    setup.answer.seal("0.1 USD")
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
    setup = PricedAnswerSetup(bus, stream=True)
    setup.answer.start(200, EVENTS)
    for piece in (TOKEN + end,) if whole else (TOKEN, end):
        setup.answer.data(piece)
    assert (Kind.DATA, TOKEN) in await setup.sent()
    setup.answer.offer("0.1 USD")
    assert await setup.sent() == []
    setup.answer.seal("0.1 USD")
    assert await setup.sent() == [
        (Kind.NOTE, ((COST, "0.1 USD"),)),
        (Kind.DATA, b": x-headrace-cost 0.1 USD\n\n" + end),
    ]


async def test_an_empty_stream_ends_once_it_is_paid(bus: FakeBus) -> None:
    setup = PricedAnswerSetup(bus, stream=True)
    setup.answer.start(200, EVENTS)
    setup.answer.data(ROLE + b"data: [DONE]\n\n")
    setup.answer.offer("0 USD")
    assert [body for kind, body in await setup.sent() if kind == Kind.DATA] == [ROLE]
    setup.answer.seal("0 USD")
    ended = (Kind.DATA, b": x-headrace-cost 0 USD\n\ndata: [DONE]\n\n")
    assert (await setup.sent())[-1] == ended


NAMED = b'"call_id":"c","name":"f"'


BEGINNINGS: list[tuple[Endpoint, bytes, bool]] = [
    (endpoints.CHAT, b'{"choices":[{"delta":{"role":"assistant","content":""}}]}', False),
    (endpoints.CHAT, b'{"choices":[{"delta":{"content":"x"}}]}', True),
    (endpoints.CHAT, b'{"choices":[{"delta":{"reasoning_content":"hm"}}]}', True),
    (endpoints.CHAT, b'{"choices":[{"delta":{"tool_calls":[{"name":"f"}]}}]}', True),
    (endpoints.COMPLETIONS, b'{"choices":[{"text":""}]}', False),
    (endpoints.COMPLETIONS, b'{"choices":[{"text":"x"}]}', True),
    (endpoints.MESSAGES, b'{"type":"message_start","message":{"content":[]}}', False),
    (endpoints.MESSAGES, b'{"content_block":{"type":"text","text":""}}', False),
    (endpoints.MESSAGES, b'{"content_block":{"type":"tool_use","name":"f"}}', True),
    (endpoints.MESSAGES, b'{"delta":{"type":"text_delta","text":"x"}}', True),
    (endpoints.RESPONSES, b'{"response":{"output":[],"tools":[{"name":"f"}]}}', False),
    (endpoints.RESPONSES, b'{"type":"response.output_text.delta","delta":"x"}', True),
    (endpoints.RESPONSES, b'{"item":{"type":"function_call",%b}}' % NAMED, True),
    (endpoints.SPEECH, b'{"type":"speech.audio.delta","audio":"AA=="}', True),
    (endpoints.IMAGES, b'{"type":"image_generation.completed","b64_json":"AA=="}', True),
]


async def test_what_counts_as_a_beginning(subtests: pytest.Subtests, bus: FakeBus) -> None:
    for endpoint, event, begins in BEGINNINGS:
        with subtests.test(f"{endpoint!r:.60} {event!r:.60}"):
            setup = PricedAnswerSetup(bus, True, endpoint)
            setup.answer.start(200, EVENTS)
            setup.answer.data(b"data: %b\n\n" % event)
            assert setup.answer.begun == begins


async def test_a_stream_without_a_token_is_handed_over_at_its_end(bus: FakeBus) -> None:
    setup = PricedAnswerSetup(bus, stream=True)
    setup.answer.start(200, EVENTS)
    setup.answer.data(ROLE)
    setup.answer.offer("0 USD")
    assert [kind for kind, _ in await setup.sent()] == [Kind.NOTE, Kind.START, Kind.DATA]


async def test_a_document_is_kept_until_its_cost_is_known(bus: FakeBus) -> None:
    setup = PricedAnswerSetup(bus, stream=False)
    setup.answer.start(200, "application/json")
    setup.answer.data(b'{"a"')
    setup.answer.data(b":1}")
    assert (await setup.sent(), setup.answer.begun) == ([], False)
    setup.answer.offer("0.2 USD")
    assert await setup.sent() == [
        (Kind.NOTE, ((SERVED_BY, "provider:p"), (COST, "0.2 USD"))),
        (Kind.START, (200, "application/json")),
        (Kind.DATA, b'{"a":1}'),
    ]
    setup.answer.seal("0.2 USD")
    assert await setup.sent() == []
    setup.answer.seal("0.0 USD")
    assert await setup.sent() == [(Kind.NOTE, ((COST, "0.0 USD"),))], "nothing was charged"


async def test_a_refusal_of_a_stream_is_a_document(bus: FakeBus) -> None:
    setup = PricedAnswerSetup(bus, stream=True)
    setup.answer.start(400, "application/json")
    setup.answer.data(b"{}")
    setup.answer.offer("0 USD")
    assert [kind for kind, _ in await setup.sent()] == [Kind.NOTE, Kind.START, Kind.DATA]
