from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from starlette.responses import Response

from ingress.answer import tier
from ingress.http.streamed import EventStream
from schemas.api import endpoints, sse
from schemas.api.endpoints import Endpoint


async def document(endpoint: Endpoint, body: dict[str, Any], status: int = 200) -> dict[str, Any]:
    response = Response(orjson.dumps(body), status)
    await tier.tell(response, endpoint)
    assert response.headers["content-length"] == str(len(response.body))
    found: dict[str, Any] = orjson.loads(response.body)
    return found


async def streamed(endpoint: Endpoint, *pieces: bytes) -> bytes:
    async def events() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    response = EventStream(events())
    await tier.tell(response, endpoint)
    return b"".join([piece async for piece in response.body_iterator])  # type: ignore[misc]


@pytest.mark.parametrize(
    ("endpoint", "flex"),
    [
        (endpoints.CHAT, True),
        (endpoints.COMPLETIONS, False),
        (endpoints.RESPONSES, True),
        (endpoints.MESSAGES, True),
        (endpoints.EMBEDDINGS, False),
    ],
)
def test_the_field_counts_where_the_endpoint_knows_it(endpoint: Endpoint, flex: bool) -> None:
    assert tier.is_known(endpoint) == flex


async def test_documents_say_the_tier_in_their_apis_place() -> None:
    assert (await document(endpoints.CHAT, {"choices": []}))["service_tier"] == "flex"
    assert (await document(endpoints.RESPONSES, {"service_tier": None}))["service_tier"] == "flex"
    usage = {"input_tokens": 1}
    assert (await document(endpoints.MESSAGES, {"usage": usage})) == {
        "usage": {**usage, "service_tier": "batch"}
    }


async def test_what_an_engine_or_a_provider_says_and_what_is_no_answer_is_left() -> None:
    assert (await document(endpoints.CHAT, {"service_tier": "default"}))[
        "service_tier"
    ] == "default"
    assert (await document(endpoints.MESSAGES, {"content": []})) == {"content": []}
    assert (await document(endpoints.CHAT, {"error": {}}, 400)) == {"error": {}}


async def test_every_chunk_of_a_chat_says_it_also_one_in_several_pieces() -> None:
    chunk = sse.dump({"choices": [], "id": "1"})
    error = sse.dump({"error": {"code": "x"}})
    found = await streamed(
        endpoints.CHAT, b": keep-alive\n\n", chunk[:9], chunk[9:], error + sse.DONE
    )
    told = sse.dump({"choices": [], "id": "1", "service_tier": "flex"})
    assert found == b": keep-alive\n\n" + told + error + sse.DONE


async def test_the_response_or_the_message_in_an_event_says_it() -> None:
    begun = {"type": "response.created", "response": {"id": "r"}}
    text = sse.dump({"type": "response.output_text.delta", "delta": "a"}, named=True)
    found = await streamed(endpoints.RESPONSES, sse.dump(begun, named=True) + text)
    response = {"id": "r", "service_tier": "flex"}
    assert found == sse.dump({**begun, "response": response}, named=True) + text

    started = {"type": "message_start", "message": {"usage": {"input_tokens": 1}}}
    ping = sse.dump({"type": "ping"}, named=True)
    found = await streamed(endpoints.MESSAGES, sse.dump(started, named=True), ping)
    usage = {"input_tokens": 1, "service_tier": "batch"}
    assert found == sse.dump({**started, "message": {"usage": usage}}, named=True) + ping
