"""Answers with status 200 that are none: errors in them, and answers with nothing in them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from fallback.providers.base import Provider, ProviderFault
from schemas.api import sse
from tests.doubles.drive import RecordingSink
from tests.doubles.raw import EVENTS, JSON, RawServer, Said, raw_server
from tests.unit.fallback.providers.tasks import CHAT, chat, opened, task

EMBEDDINGS, MESSAGES, RESPONSES = "/v1/embeddings", "/v1/messages", "/v1/responses"
FREE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
PAID = {"prompt_tokens": 5, "completion_tokens": 0, "total_tokens": 5}
DONE = sse.DONE


@pytest.fixture
async def raw() -> AsyncIterator[RawServer]:
    async with raw_server() as server:
        yield server


@pytest.fixture
async def cloud(monkeypatch: pytest.MonkeyPatch, raw: RawServer) -> AsyncIterator[Provider]:
    async with opened(monkeypatch, "openai", raw.url + "/v1") as provider:
        yield provider


def choice(message: Any = None, **more: Any) -> dict[str, Any]:
    said = {"role": "assistant", "content": ""} if message is None else message
    return {"choices": [{"index": 0, "message": said, **more}]}


def events(*found: Any) -> bytes:
    return b"".join(sse.dump(each) for each in found) + DONE


def delta(said: Any, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": said, **more}]}


STREAM = events(
    delta({"content": "Hi"}), delta({}, finish_reason="stop"), {"choices": [], "usage": PAID}
)
BROKE = {"code": 502, "message": "upstream broke"}
NONE: list[tuple[Any, str]] = [
    ({"error": BROKE}, "answered 502"),
    (choice(error=BROKE), "answered 502"),
    (choice({"content": "half"}, finish_reason="error"), "answered 500"),
    ({"choices": []}, "no 'choices'"),
    ({"choices": None}, "no 'choices'"),
    ({"data": [{"embedding": [0.5]}]}, "no 'choices'"),
    ({"choices": [{"text": "of another endpoint"}]}, "no 'message' in its 'choices'"),
    (choice(), "nothing in it"),
    (choice({"role": "assistant", "content": None}, finish_reason="stop"), "nothing in it"),
    ({**choice(), "usage": FREE}, "nothing in it"),
    (b"", "half an answer"),
    (b"<html>gone</html>", "half an answer"),
    (b'{"choices":[{"mess', "half an answer"),
    ([], "no answer"),
]


@pytest.mark.parametrize(("body", "why"), NONE)
async def test_a_document_that_is_no_answer(
    cloud: Provider, raw: RawServer, body: Any, why: str
) -> None:
    raw.says(CHAT, Said(body if isinstance(body, bytes) else orjson.dumps(body), JSON))
    sink = RecordingSink()
    with pytest.raises(ProviderFault, match=why) as caught:
        await cloud.call(chat("gpt-4o"), sink)
    assert caught.value.reason == "failed"
    assert not sink.status


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (DONE, "nothing in it"),
        (b"data:[DONE]", "nothing in it"),
        (b": hello\n\ndata:\n\n" + DONE, "nothing in it"),
        (events(delta({"role": "assistant", "content": ""})), "nothing in it"),
        (events(delta({}, finish_reason="stop")), "nothing in it"),
        (events(delta({}, finish_reason="stop"), {"choices": [], "usage": FREE}), "nothing in it"),
        (events({"choices": [], "usage": PAID}), "nothing in it"),
        (events({"choices": [], "error": BROKE}), "answered 502"),
        (events(delta({"content": ""}, error=BROKE)), "answered 502"),
        (events(delta({"content": ""}, finish_reason="error")), "answered 500"),
    ],
)
async def test_a_stream_that_is_no_answer(
    cloud: Provider, raw: RawServer, body: bytes, why: str
) -> None:
    raw.says(CHAT, Said(body))
    with pytest.raises(ProviderFault, match=why):
        await cloud.call(chat("gpt-4o", stream=True), RecordingSink())


@pytest.mark.parametrize(
    "body",
    [
        {**choice({"content": ""}, finish_reason="length"), "usage": PAID},
        choice({"content": "Hi"}),
        choice({"reasoning": "Hm"}),
        choice({"refusal": "No."}),
        choice({"content": None, "tool_calls": [{"function": {"name": "f", "arguments": ""}}]}),
    ],
)
async def test_what_is_little_is_an_answer(cloud: Provider, raw: RawServer, body: Any) -> None:
    raw.says(CHAT, Said(orjson.dumps(body), JSON))
    sink = RecordingSink()
    await cloud.call(chat("gpt-4o"), sink)
    assert sink.document == body
    [whole] = body["choices"]
    deltas = {name: value for name, value in whole.items() if name != "message"}
    usage = {"choices": [], "usage": body.get("usage")}
    raw.says(CHAT, Said(events(delta(whole["message"], **deltas), usage)))
    sink = RecordingSink()
    await cloud.call(chat("gpt-4o", stream=True), sink)
    assert sink.events[0]["choices"][0]["delta"] == whole["message"]


async def test_a_stream_that_comes_as_a_document_is_a_stream_all_the_same(
    cloud: Provider, raw: RawServer
) -> None:
    raw.says(CHAT, Said(orjson.dumps({**choice({"content": "Hi"}), "usage": PAID}), JSON))
    sink = RecordingSink()
    spent = await cloud.call(chat("gpt-4o", stream=True), sink)
    assert spent.prompt == PAID["prompt_tokens"]
    assert (sink.status, sink.content_type, sink.body.count(DONE)) == (200, sse.CONTENT_TYPE, 1)
    deltas = [each["choices"][0]["delta"] for each in sink.events if each["choices"]]
    assert "".join(each.get("content") or "" for each in deltas) == "Hi"


@pytest.mark.parametrize(
    ("path", "kind", "model", "body", "why"),
    [
        (EMBEDDINGS, "openai", "text-embedding-3-small", {"data": None}, "no 'data'"),
        (EMBEDDINGS, "openai", "text-embedding-3-small", {"data": []}, "no 'data'"),
        (EMBEDDINGS, "openai", "text-embedding-3-small", {"data": [{}]}, "no 'embedding'"),
        (RESPONSES, "openai", "gpt-4o", {"output": [], "status": "completed"}, "nothing in it"),
        (RESPONSES, "openai", "gpt-4o", {"output": [], "status": "failed"}, "answered 500"),
        (MESSAGES, "anthropic", "claude-haiku-4-5", {"content": []}, "nothing in it"),
        (MESSAGES, "anthropic", "claude-haiku-4-5", {"type": "error", "error": {}}, "answered 500"),
        (MESSAGES, "anthropic", "claude-haiku-4-5", {"choices": [{}]}, "no 'content'"),
    ],
)
async def test_documents_of_other_endpoints(
    monkeypatch: pytest.MonkeyPatch,
    raw: RawServer,
    path: str,
    kind: str,
    model: str,
    body: Any,
    why: str,
) -> None:
    raw.says(path, Said(orjson.dumps(body), JSON))
    asked: dict[str, Any] = {
        "input": "x",
        "messages": [{"role": "user", "content": "x"}],
        "max_tokens": 9,
    }
    async with opened(monkeypatch, kind, raw.url + "/v1") as cloud:
        with pytest.raises(ProviderFault, match=why):
            await cloud.call(task(path, model, **asked), RecordingSink())


async def test_pictures_that_are_not_there_are_not_charged(cloud: Provider, raw: RawServer) -> None:
    path = "/v1/images/generations"
    asked = task(path, "gpt-image-1", prompt="a cat")
    for said, why in (
        (Said(DONE), "nothing in it"),
        (Said(b'{"data":null}', JSON), "no 'data'"),
        (Said(b'{"data":[]}', JSON), "no 'data'"),
        (Said(b'{"data":[{}]}', JSON), "no 'b64_json'"),
    ):
        raw.says(path, said)
        with pytest.raises(ProviderFault, match=why):
            await cloud.call(asked, RecordingSink())


@pytest.mark.parametrize("ending", ["chunked", "sized", "closed"])
async def test_a_whole_answer_may_end_without_saying_so(
    cloud: Provider, raw: RawServer, ending: Any
) -> None:
    said = events(delta({"content": "Hi"}), delta({}, finish_reason="stop"))
    raw.says(CHAT, Said(said.removesuffix(DONE), EVENTS, ending))
    sink = RecordingSink()
    await cloud.call(chat("gpt-4o", stream=True), sink)
    assert sink.body == said


ODD_TYPES = ["text/plain; charset=utf-8", "Text/Event-Stream", "", JSON]


@pytest.mark.parametrize("kind", ODD_TYPES)
async def test_a_stream_is_one_under_any_type(cloud: Provider, raw: RawServer, kind: str) -> None:
    raw.says(CHAT, Said(STREAM, kind))
    sink = RecordingSink()
    spent = await cloud.call(chat("gpt-4o", stream=True), sink)
    assert (sink.status, sink.content_type, spent.prompt) == (200, EVENTS, 5)
    assert sink.body.endswith(DONE)


@pytest.mark.parametrize("kind", [EVENTS, *ODD_TYPES])
async def test_a_stream_that_nobody_asked_for_becomes_a_document(
    cloud: Provider, raw: RawServer, kind: str
) -> None:
    raw.says(CHAT, Said(STREAM, kind, status=201))
    sink = RecordingSink()
    assert (await cloud.call(chat("gpt-4o"), sink)).prompt == 5
    assert (sink.status, sink.content_type) == (200, JSON)
    assert sink.document["choices"][0]["message"]["content"] == "Hi"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (DONE, "no answer"),
        (events({"error": BROKE}), "answered 502"),
        (events({"error": BROKE}).removesuffix(DONE), "answered 502"),
        (STREAM[:-40], "before its end was said"),
        (events({"choices": [5]}), "no answer"),
    ],
)
async def test_one_that_makes_no_document(
    cloud: Provider, raw: RawServer, body: bytes, why: str
) -> None:
    raw.says(CHAT, Said(body))
    with pytest.raises(ProviderFault, match=why):
        await cloud.call(chat("gpt-4o"), RecordingSink())


@pytest.mark.parametrize("ending", ["short", "unchunked", "reset"])
@pytest.mark.parametrize("done", [True, False])
async def test_a_cut_answer_is_none_unless_it_said_its_end(
    cloud: Provider, raw: RawServer, ending: Any, done: bool
) -> None:
    said = events(delta({"content": "Hi"}), delta({}, finish_reason="stop"))
    raw.says(CHAT, Said(said if done else said.removesuffix(DONE), EVENTS, ending))
    sink = RecordingSink()
    if done:
        await cloud.call(chat("gpt-4o", stream=True), sink)
        assert sink.body == said
        return
    with pytest.raises(ProviderFault, match="broke the connection"):
        await cloud.call(chat("gpt-4o", stream=True), sink)
    assert not sink.body.endswith(DONE)
