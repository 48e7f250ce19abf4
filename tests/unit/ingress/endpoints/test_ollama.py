"""Ollama's API through the whole ingress, with an echo engine behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
import pytest_asyncio

from schemas.api.ollama import memory
from schemas.nodes import Ignored, ServedModel
from tests.unit.ingress.loopback import HEADERS, LoopbackIngress, Reply, loopback_ingress

MESSAGES = [{"role": "user", "content": "one two"}]
ASKED = {"model": "echo", "messages": MESSAGES}
PROMPTED = {"model": "echo", "prompt": "one two"}
WARNING = "x-headrace-warning"


@pytest_asyncio.fixture
async def ingress() -> AsyncIterator[LoopbackIngress]:
    async with loopback_ingress() as made:
        yield made


async def get(ingress: LoopbackIngress, path: str, **headers: str) -> Reply:
    return await ingress.call("GET", path, b"", {**HEADERS, **headers})


def lines(reply: Reply) -> list[Any]:
    assert reply.headers["content-type"] == "application/x-ndjson"
    return [orjson.loads(line) for line in reply.body.splitlines()]


async def test_a_chat_streams_and_is_a_document_if_it_is_asked_for(
    ingress: LoopbackIngress,
) -> None:
    streamed = lines(await ingress.post("/api/chat", ASKED))
    assert [line["message"]["content"] for line in streamed] == ["one", " two", ""]
    assert {line["model"] for line in streamed} == {"echo"}
    document = (await ingress.post("/api/chat", {**ASKED, "stream": False})).json
    assert document["message"] == {"role": "assistant", "content": "one two"}
    assert (document["done"], document["done_reason"]) == (True, "stop")
    assert document["eval_count"] == streamed[-1]["eval_count"] == 2


@pytest.mark.parametrize("path", ["chat", "generate", "embed", "embeddings"])
async def test_what_another_endpoint_reads_asks_for_nothing(
    ingress: LoopbackIngress, path: str
) -> None:
    own = {"chat": "messages", "generate": "prompt", "embed": "input", "embeddings": "prompt"}
    fields = {"messages": MESSAGES, "prompt": "one", "input": "one"}
    others = {name: value for name, value in fields.items() if name != own[path]}
    reply = await ingress.post(f"/api/{path}", {"model": "echo", **others})
    assert (reply.status, ingress.line.jobs) == (200, [])


async def test_a_prompt_is_answered(ingress: LoopbackIngress) -> None:
    asked = {"model": "echo", "prompt": "one two", "options": {"num_predict": 1}}
    found = lines(await ingress.post("/api/generate", asked))
    assert [line["response"] for line in found] == ["one", ""]
    assert found[-1]["done_reason"] == "length"
    raw = (await ingress.post("/api/generate", {**asked, "raw": True, "stream": False})).json
    assert raw["response"] == "one"
    assert [job.endpoint for job in ingress.line.jobs] == [
        "/v1/chat/completions",
        "/v1/completions",
    ]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_context_goes_on_with_what_was_said(ingress: LoopbackIngress, stream: bool) -> None:
    asked = {"model": "echo", "prompt": "one two", "stream": stream}
    first = await ingress.post("/api/generate", asked)
    context = (lines(first)[-1] if stream else first.json)["context"]
    again = await ingress.post("/api/generate", {**asked, "prompt": "three", "context": context})
    assert WARNING not in again.headers
    more = memory.read((lines(again)[-1] if stream else again.json)["context"])
    told = [("user", "one two"), ("assistant", "one two")]
    assert more == [*told, ("user", "three"), ("assistant", "three")]
    lost = await ingress.post("/api/generate", {**asked, "context": [1, 2]})
    assert "context has no effect" in lost.headers[WARNING]


async def test_a_model_without_chats_goes_on_with_the_prompt(ingress: LoopbackIngress) -> None:
    ingress.serve(ServedModel("echo", "e", "echo", 4, features=("completions",)))
    asked = {"model": "echo", "prompt": "one", "stream": False}
    assert (await ingress.post("/api/generate", asked)).json["response"] == "one"


@pytest.mark.parametrize(
    ("path", "fields"), [("/api/chat", {"messages": []}), ("/api/generate", {"prompt": ""})]
)
@pytest.mark.parametrize(("kept", "word"), [(None, "load"), ("5m", "load"), (0, "unload")])
async def test_nothing_asked_is_a_model_loaded(
    ingress: LoopbackIngress, path: str, fields: dict[str, Any], kept: Any, word: str
) -> None:
    reply = await ingress.post(path, {"model": "echo", **fields, "keep_alive": kept})
    assert (reply.json["done"], reply.json["done_reason"]) == (True, word)
    assert (WARNING in reply.headers) == (kept is not None)
    assert not ingress.line.jobs
    lost = await ingress.post(path, {"model": "nope", **fields})
    assert (lost.status, lost.json["code"]) == (404, "model_not_found")


async def test_embeddings_of_both_kinds(ingress: LoopbackIngress) -> None:
    found = (await ingress.post("/api/embed", {"model": "echo", "input": ["a", "b"]})).json
    assert len(found["embeddings"]) == 2
    assert found["prompt_eval_count"] == 2
    older = (await ingress.post("/api/embeddings", {"model": "echo", "prompt": "a"})).json
    assert older["embedding"] == pytest.approx(found["embeddings"][0])
    for path, nothing in (("/api/embed", "embeddings"), ("/api/embeddings", "embedding")):
        assert (await ingress.post(path, {"model": "echo"})).json[nothing] == []


async def test_names_as_listed_work_when_they_are_sent_back(ingress: LoopbackIngress) -> None:
    listed = (await get(ingress, "/api/tags")).json["models"]
    assert [each["model"] for each in listed] == ["echo:latest"]
    name = listed[0]["model"]
    reply = await ingress.post("/api/chat", {**ASKED, "model": name, "stream": False})
    assert (reply.status, reply.json["model"]) == (200, name)
    for field in ("model", "name"):
        shown = await ingress.post("/api/show", {field: name})
        assert shown.json["capabilities"] == listed[0]["capabilities"]
    assert [each["name"] for each in (await get(ingress, "/api/ps")).json["models"]] == [name]


async def test_hints_that_do_nothing_are_left_out_and_named(ingress: LoopbackIngress) -> None:
    never = tuple(Ignored(name, "never", unless=()) for name in ("keep_alive", "top_k", "seed"))
    features = ("chat", "embeddings")
    ingress.serve(ServedModel("echo", "e", "echo", 4, features=features, ignores=never))
    asked = {**ASKED, "keep_alive": -1, "options": {"top_k": 4, "num_ctx": 9}, "stream": False}
    reply = await ingress.post("/api/chat", asked)
    assert reply.status == 200
    for name in ("keep_alive has", "top_k has", "options.num_ctx has"):
        assert name in reply.headers[WARNING]
    assert "seed" not in reply.headers[WARNING]


@pytest.mark.parametrize(("path", "own"), [("chat", ASKED), ("generate", PROMPTED)])
async def test_a_model_of_ollama_that_does_not_think_is_not_asked_to(
    ingress: LoopbackIngress, path: str, own: dict[str, Any]
) -> None:
    for kind, features in (("ollama", ()), ("ollama", ("reasoning",)), ("echo", ())):
        ingress.serve(ServedModel("echo", "e", kind, 4, features=("chat", *features)))
        for think in (True, "high", False, None):
            reply = await ingress.post(f"/api/{path}", {**own, "think": think})
            if kind == "ollama" and not features and think:
                assert (reply.status, reply.json["code"]) == (400, "unsupported_parameter")
                assert reply.json["error"] == '"echo" does not support thinking'
            else:
                assert reply.status == 200
    never = (Ignored("reasoning_effort", "the model does not reason"),)
    ingress.serve(ServedModel("echo", "e", "ollama", 4, features=("chat",), ignores=never))
    lenient = {"x-headrace-lenient": "true"}
    reply = await ingress.post(f"/api/{path}", {**own, "think": True}, **lenient)
    assert (reply.status, "no effect" in reply.headers[WARNING]) == (200, True)


async def test_what_changes_the_meaning_is_refused(ingress: LoopbackIngress) -> None:
    never = (Ignored("response_format", "never"),)
    ingress.serve(ServedModel("echo", "e", "echo", 4, features=("chat",), ignores=never))
    reply = await ingress.post("/api/chat", {**ASKED, "format": "json"})
    assert (reply.status, reply.json["code"]) == (400, "unsupported_parameter")
    assert isinstance(reply.json["error"], str)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_schema_is_held(ingress: LoopbackIngress, stream: bool) -> None:
    schema = {"type": "object", "required": ["a"]}
    reply = await ingress.post("/api/chat", {**ASKED, "format": schema, "stream": stream})
    error = lines(reply)[-1] if stream else reply.json
    assert error["code"] == "invalid_structured_output"
    assert reply.status == (200 if stream else 502)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        *(
            ("POST", f"/api/{word}", 400, "unsupported_endpoint")
            for word in ("pull", "push", "copy")
        ),
        ("POST", "/api/create", 400, "unsupported_endpoint"),
        ("DELETE", "/api/delete", 400, "unsupported_endpoint"),
        ("POST", "/api/blobs/sha256:0", 400, "unsupported_endpoint"),
        ("GET", "/api/chat", 405, "method_not_allowed"),
        ("POST", "/api/nothing", 404, "not_found"),
        ("POST", "/api/show", 400, "invalid_request"),
    ],
)
async def test_errors_are_one_text(
    ingress: LoopbackIngress, method: str, path: str, status: int, code: str
) -> None:
    reply = await ingress.call(method, path, b"{}", HEADERS)
    assert (reply.status, reply.json["code"]) == (status, code)
    assert isinstance(reply.json["error"], str)


@pytest.mark.parametrize(("word", "name"), [("model", "echo"), ("name", "echo:latest")])
async def test_a_model_that_is_served_is_pulled_already(
    ingress: LoopbackIngress, word: str, name: str
) -> None:
    streamed = await ingress.post("/api/pull", {word: name})
    whole = await ingress.post("/api/pull", {word: name, "stream": False, "insecure": False})
    assert lines(streamed) == [{"status": "success"}] == [whole.json]
    refused = await ingress.post("/api/pull", {word: "other"})
    assert (refused.status, refused.json["code"]) == (400, "unsupported_endpoint")


async def test_a_fault_in_the_history_is_named(ingress: LoopbackIngress) -> None:
    nameless = {"role": "assistant", "content": "one", "tool_calls": [{"function": {}}]}
    reply = await ingress.post("/api/chat", {"model": "echo", "messages": [nameless]})
    assert (reply.status, reply.json["param"]) == (400, "messages[0].tool_calls[0].function.name")


@pytest.mark.parametrize("path", ["/api/tags", "/api/ps", "/api/version", "/api/chat", "/api/show"])
async def test_a_key_is_needed(ingress: LoopbackIngress, path: str) -> None:
    method = "POST" if path in ("/api/chat", "/api/show") else "GET"
    reply = await ingress.call(method, path, b"{}", {})
    assert (reply.status, reply.json["code"]) == (401, "invalid_api_key")


async def test_it_says_that_it_runs_unless_a_browser_asks(ingress: LoopbackIngress) -> None:
    for method in ("GET", "HEAD"):
        reply = await ingress.call(method, "/", b"", {})
        assert (reply.status, reply.body) == (200, b"Ollama is running")
    page = await get(ingress, "/", accept="text/html,*/*;q=0.8")
    assert page.body.startswith(b"<!doctype html>")
    assert (await get(ingress, "/api/version")).json["version"].count(".") == 2
