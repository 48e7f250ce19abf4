"""Any OpenAI-compatible server: a vLLM simulator plays it, without what is known of vLLM."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import orjson
import pytest
from aiohttp import web

from schemas.api import sse as events
from schemas.frames import End
from tests.doubles.base import DONE, Sim, document, sse, stream
from tests.doubles.drive import CHAT, RecordingSink, ask, chat, config, job, opened
from tests.doubles.vllm.server import Vllm
from workers.engines import KINDS
from workers.engines.base import EngineFault
from workers.engines.openai.engine import OpenAIEngine


class OneEndpoint(Sim):
    """One chat endpoint that answers as a test says; its body is never looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.names = ["odd"]
        self.refuses = (400, b"{}")
        self.raw: list[bytes] = []
        self.chunks: list[bytes] = [sse({"choices": [{}]}), DONE]
        self.streams = True

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/v1/models", self._models), web.post(CHAT, self._chat)]

    def missing(self, fault: web.HTTPException) -> web.Response:
        return document(b"nothing here", fault.status, "text/plain")

    async def _models(self, request: web.Request) -> web.Response:
        return document({"object": "list", "data": [{"id": name} for name in self.names]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        self.raw.append(await request.read())
        asked = orjson.loads(self.raw[-1])
        if "messages" not in asked or not self.streams:
            status, body = self.refuses
            return document(body, status)
        response = await stream(request, "text/event-stream")
        for chunk in self.chunks:
            await response.write(chunk)
        return response


@pytest.fixture
async def server() -> AsyncIterator[Vllm]:
    async with Vllm(max_num_seqs=2) as running:
        yield running


@pytest.fixture
async def odd() -> AsyncIterator[OneEndpoint]:
    async with OneEndpoint() as running:
        yield running


@pytest.fixture
async def engine(server: Vllm) -> AsyncIterator[OpenAIEngine]:
    async with opened(OpenAIEngine(config("openai", server.url + "/v1"))) as made:
        yield made


async def test_models_slots_and_endpoints_are_found(server: Vllm) -> None:
    made = OpenAIEngine(config("openai", server.url))
    async with opened(made):
        offer = await made.discover()

    assert offer.slots == 4
    assert [model.id for model in offer.models] == ["tiny"]
    wanted = (
        "chat",
        "completions",
        "responses",
        "messages",
        "count_tokens",
        "tokenize",
        "detokenize",
    )
    assert offer.models[0].features == wanted
    assert KINDS["openai"] is OpenAIEngine


async def test_slots_and_a_name_for_the_only_model_come_from_the_config(server: Vllm) -> None:
    made = OpenAIEngine(config("openai", server.url, slots=9, models=["mine"]))
    async with opened(made):
        offer = await made.discover()
        answer = await ask(made, job("mine"), chat("hello", model="an-alias"))

    assert (offer.slots, offer.models[0].id) == (9, "mine")
    assert answer.document["choices"][0]["message"]["content"] == "hello"
    assert server.asked(CHAT)[-1]["model"] == "tiny"


async def test_a_model_that_is_not_there_is_a_fault_that_names_those_that_are(
    odd: OneEndpoint,
) -> None:
    odd.names = ["a", "b"]
    made = OpenAIEngine(config("openai", odd.url, models=["c"]))
    await made.open()
    with pytest.raises(EngineFault, match="no model 'c'; it has: a, b"):
        await made.discover()
    await made.close()


async def test_something_else_behind_the_url_is_a_fault(server: Vllm) -> None:
    made = OpenAIEngine(config("openai", server.url + "/health"))
    await made.open()
    with pytest.raises(EngineFault) as caught:
        await made.discover()
    await made.close()

    assert caught.value.away


async def test_a_stream_passes_byte_by_byte(server: Vllm, engine: OpenAIEngine) -> None:
    body = chat("one two three", model="tiny", stream=True, stream_options={"include_usage": True})
    sink = RecordingSink()
    end = await engine.run(job("tiny", stream=True), orjson.dumps(body), sink)

    assert (sink.status, sink.content_type) == (200, "text/event-stream; charset=utf-8")
    assert sink.text == "one two three"
    assert sink.events[0]["prompt_token_ids"] is None, "fields that nobody knows stay"
    assert sink.body.endswith(DONE)
    assert end == End(17, 3, 0, end.engine_ms)


async def test_a_document_passes_as_it_is(server: Vllm, engine: OpenAIEngine) -> None:
    sink = RecordingSink()
    body = orjson.dumps(chat("one two", model="tiny", odd={"a": [1]}))
    end = await engine.run(job("tiny"), body, sink)

    assert sink.document["kv_transfer_params"] is None
    assert end == End(16, 2, 0, end.engine_ms)
    assert server.asked(CHAT)[-1]["odd"] == {"a": [1]}
    assert "stream" not in server.asked(CHAT)[-1], "called as the client asked"


async def test_the_body_goes_untouched_unless_the_model_has_another_name(odd: OneEndpoint) -> None:
    spaced = b'{ "messages":[1.50],\n "model" : "odd" }'
    async with opened(OpenAIEngine(config("openai", odd.url))) as engine:
        await ask(engine, job("odd", stream=True), spaced)
        await ask(engine, job("odd", stream=True), spaced.replace(b'"odd"', b'"other"'))

    assert odd.raw[-2] == spaced
    assert orjson.loads(odd.raw[-1]) == {"messages": [1.5], "model": "odd"}


@pytest.mark.parametrize(
    ("endpoint", "body", "end"),
    [
        ("/v1/completions", {"prompt": "one two", "max_tokens": 2}, End(16, 2, 0)),
        ("/v1/responses", {"input": "one two"}, End(16, 2, 0)),
        ("/v1/messages", {"messages": [{"role": "user", "content": "a b"}], "max_tokens": 2},
         End(16, 2, 0)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("streamed", [True, False])
async def test_other_endpoints_pass_and_tell_their_tokens(
    engine: OpenAIEngine, endpoint: str, body: dict[str, object], end: End, streamed: bool
) -> None:
    sink = RecordingSink()
    more = {"stream": streamed, "stream_options": {"include_usage": True}}
    told = await engine.run(
        job("tiny", endpoint, stream=streamed), orjson.dumps({**body, **more}), sink
    )

    assert sink.status == 200
    assert end == End(told.prompt_tokens, told.completion_tokens, told.cached_tokens)


async def test_an_endpoint_it_does_not_have_is_refused(engine: OpenAIEngine) -> None:
    answer = await ask(engine, job("tiny", "/v1/embeddings"), {"input": "x"})

    assert answer.status == 400
    assert answer.error["code"] == "unsupported_endpoint"
    assert "/v1/embeddings" in answer.error["message"]


async def test_a_model_it_no_longer_has_is_refused(engine: OpenAIEngine) -> None:
    answer = await ask(engine, job("gone"), chat("x"))

    assert answer.status == 404
    assert (answer.error["code"], answer.error["param"]) == ("model_not_found", "model")


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"'])
async def test_what_is_no_json_object_is_refused(engine: OpenAIEngine, body: bytes) -> None:
    answer = await ask(engine, job("tiny"), body)

    assert answer.status == 400
    assert answer.error["code"] == "invalid_request"


async def test_a_client_that_leaves_frees_the_place(server: Vllm, engine: OpenAIEngine) -> None:
    server.token_s = 0.01
    for streamed in (True, False):
        sink = RecordingSink()
        body = orjson.dumps(chat("word " * 900, stream=streamed))
        task = asyncio.create_task(engine.run(job("tiny", stream=streamed), body, sink))
        await server.seen("started", 1 if streamed else 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await server.seen("left", 2)

    assert server.slots.running == 0


async def test_a_stream_without_its_end_has_failed(odd: OneEndpoint) -> None:
    odd.chunks = [sse({"choices": []})]
    async with opened(OpenAIEngine(config("openai", odd.url))) as engine:
        with pytest.raises(EngineFault, match="before its end") as caught:
            await ask(engine, job("odd", stream=True), chat("x"))

    assert caught.value.retryable
    assert caught.value.away


async def test_an_error_inside_a_stream_is_no_answer(odd: OneEndpoint) -> None:
    good = sse({"choices": [{"delta": {"content": "a"}}]})
    odd.chunks = [good + sse({"error": {"message": "out of luck", "code": 500}}) + DONE]
    sink = RecordingSink()
    async with opened(OpenAIEngine(config("openai", odd.url))) as engine:
        with pytest.raises(EngineFault, match="out of luck"):
            await engine.run(job("odd", stream=True), orjson.dumps(chat("x")), sink)

    assert sink.body == good


async def test_an_empty_error_field_is_no_error(odd: OneEndpoint) -> None:
    odd.chunks = [sse({"error": None, "choices": [{}]}), DONE]
    async with opened(OpenAIEngine(config("openai", odd.url))) as engine:
        answer = await ask(engine, job("odd", stream=True), chat("x"))

    assert answer.body == b"".join(odd.chunks)


async def test_a_document_for_a_stream_is_put_as_one(odd: OneEndpoint) -> None:
    choice = {"index": 0, "message": {"content": "hi"}, "finish_reason": "length"}
    usage = {"prompt_tokens": 3, "completion_tokens": 4}
    document = {"object": "chat.completion", "choices": [choice], "usage": usage}
    async with opened(OpenAIEngine(config("openai", odd.url))) as engine:
        odd.streams, odd.refuses = False, (200, orjson.dumps(document))
        answer = await ask(engine, job("odd", stream=True), chat("x"))

    said, ended = [event["choices"][0] for event in events.objects(answer.body)]
    assert (said["delta"], ended["finish_reason"]) == ({"content": "hi"}, "length")
    assert answer.body.endswith(DONE)


async def test_what_is_no_document_for_a_stream_is_a_fault(odd: OneEndpoint) -> None:
    async with opened(OpenAIEngine(config("openai", odd.url))) as engine:
        odd.streams, odd.refuses = False, (200, b"{}")
        with pytest.raises(EngineFault, match="without 'choices'"):
            await ask(engine, job("odd", stream=True), chat("x"))


@pytest.mark.parametrize(
    ("status", "away"), [(500, False), (502, True), (503, True), (429, False), (408, False)]
)
async def test_what_may_pass_is_tried_again(odd: OneEndpoint, status: int, away: bool) -> None:
    async with opened(OpenAIEngine(config("openai", odd.url))) as engine:
        odd.streams, odd.refuses = False, (status, b'{"error":{"message":"why"}}')
        with pytest.raises(EngineFault, match="why") as caught:
            await ask(engine, job("odd"), chat("x"))

    assert caught.value.retryable
    assert caught.value.away is away


async def test_what_a_server_lacks_is_no_fault_of_the_client(odd: OneEndpoint) -> None:
    async with opened(OpenAIEngine(config("openai", odd.url))) as engine:
        why = b'{"error":{"message":"Please install vllm[audio] for audio support"}}'
        odd.streams, odd.refuses = False, (400, why)
        with pytest.raises(EngineFault, match="Please install"):
            await ask(engine, job("odd"), chat("x"))


@pytest.mark.parametrize("status", [401, 403])
async def test_a_key_that_is_not_taken_is_no_fault_of_the_client(
    odd: OneEndpoint, status: int
) -> None:
    async with opened(OpenAIEngine(config("openai", odd.url))) as engine:
        odd.streams, odd.refuses = False, (status, b'{"error":"bad key"}')
        with pytest.raises(EngineFault, match="worker's key: bad key") as caught:
            await ask(engine, job("odd"), chat("x"))

    assert caught.value.away


async def test_an_engine_that_is_not_there_is_away(engine: OpenAIEngine, server: Vllm) -> None:
    await server.stop()
    with pytest.raises(EngineFault) as caught:
        await ask(engine, job("tiny"), chat("x"))
    with pytest.raises(EngineFault):
        await engine.probe()
    with pytest.raises(EngineFault):
        await engine.check()

    assert caught.value.away


async def test_the_check_is_a_real_small_job(server: Vllm, engine: OpenAIEngine) -> None:
    await engine.check()
    assert server.asked(CHAT)[-1]["max_tokens"] == 1

    server.dead = True
    with pytest.raises(EngineFault, match="failed a small job") as caught:
        await engine.check()
    assert caught.value.away


async def test_an_idle_engine_with_other_models_is_asked_anew(odd: OneEndpoint) -> None:
    async with opened(OpenAIEngine(config("openai", odd.url))) as engine:
        assert await engine.probe()
        odd.names = ["odd", "new"]
        with pytest.raises(EngineFault, match="other models"):
            await engine.probe()
        offer = await engine.discover()
        assert await engine.probe()

    assert [model.id for model in offer.models] == ["odd", "new"]
    assert len(odd.asked("/v1/embeddings")) == 2, "once for all models, each time"


async def test_a_server_without_any_endpoint_is_not_one(odd: OneEndpoint) -> None:
    odd.streams, odd.refuses = False, (404, b"nothing here")
    made = OpenAIEngine(config("openai", odd.url))
    await made.open()
    with pytest.raises(EngineFault, match="none of OpenAI's endpoints"):
        await made.discover()
    await made.close()
