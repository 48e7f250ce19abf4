"""Engines get documents and search results as texts; what is to be cited is refused."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.doubles.drive import CHAT, RecordingSink, ask, chat, job, opened
from tests.doubles.drive import config as config_of
from tests.doubles.llamacpp import DATA
from tests.doubles.llamacpp.server import LlamaCpp
from workers.engines.llamacpp.engine import LlamaCppEngine
from workers.engines.openai import documents

MESSAGES, COUNT = "/v1/messages", "/v1/messages/count_tokens"
DOCUMENT: dict[str, Any] = {
    "type": "document",
    "source": {"type": "text", "media_type": "text/plain", "data": "It is old."},
}
CITED = {**DOCUMENT, "citations": {"enabled": True}}
SAID = [{"type": "text", "text": "<document>\nIt is old.\n</document>"}]


async def sent(server: LlamaCpp, endpoint: str, block: Any, **more: Any) -> RecordingSink:
    async with opened(LlamaCppEngine(config_of("llamacpp", server.url))) as engine:
        what = job("own", endpoint, stream=endpoint == MESSAGES, **more)
        return await ask(engine, what, chat([block], stream=what.stream, max_tokens=12))


@pytest.mark.parametrize("endpoint", [MESSAGES, COUNT])
@pytest.mark.parametrize(("block", "lenient"), [(DOCUMENT, False), (CITED, True)])
async def test_the_engine_gets_a_text(endpoint: str, block: Any, lenient: bool) -> None:
    async with LlamaCpp() as server:
        server.streams[MESSAGES] = [(DATA / "messages.sse").read_bytes()]
        server.documents[COUNT] = 200, {"input_tokens": 9}
        sink = await sent(server, endpoint, block, lenient=lenient)
        assert sink.status == 200
        asked = server.asked(endpoint)[-1]
        assert asked["messages"] == [{"role": "user", "content": SAID}]


@pytest.mark.parametrize("endpoint", [MESSAGES, COUNT])
async def test_one_that_is_to_be_cited_is_refused_by_name(endpoint: str) -> None:
    async with LlamaCpp() as server:
        error = (await sent(server, endpoint, CITED)).error
    assert error["param"] == "messages[0].content[0].citations"
    assert error["code"] == "unsupported_parameter"


@pytest.mark.parametrize(
    ("endpoint", "content"),
    [(MESSAGES, [{"type": "text", "text": '"document"'}]), (CHAT, [DOCUMENT]), (COUNT, "hi")],
)
async def test_other_requests_pass_as_they_are(endpoint: str, content: Any) -> None:
    body = orjson.dumps(chat(content))
    assert await documents.as_texts(job("m", endpoint), body) is body
