"""The endpoints of texts over real processes and a real broker, with the echo engine."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
from collections.abc import Mapping
from typing import Any

import pytest

from tests.fabric import Fabric, ask, counts
from tests.unit.ingress.loopback import Reply

NAME = "gpt-4o-mini"
CHAT = "/v1/chat/completions"
USER = [{"role": "user", "content": "one two three"}]
GENERATING: dict[str, dict[str, Any]] = {
    CHAT: {"messages": USER, "stream_options": {"include_usage": True}},
    "/v1/completions": {"prompt": "one two three"},
    "/v1/responses": {"input": "one two three"},
    "/v1/messages": {"messages": USER, "max_tokens": 3},
}
OTHERS: dict[str, dict[str, Any]] = {
    "/v1/embeddings": {"input": ["a", "b"]},
    "/v1/rerank": {"query": "a", "documents": ["b", "a"]},
    "/v1/moderations": {"input": ["a", "b"]},
    "/v1/messages/count_tokens": {"messages": USER},
    "/v1/responses/input_tokens": {"input": "a b c"},
    "/v1/chat/completions/input_tokens": {"messages": USER},
}
LAST = {"/v1/responses": "response.completed", "/v1/messages": "message_stop"}


async def send(fabric: Fabric, path: str, body: Any, **headers: str) -> Reply:
    heads = {**fabric.headers, **{k.replace("_", "-"): v for k, v in headers.items()}}
    async with fabric.session.post(fabric.url + path, json=body, headers=heads) as answer:
        found = {name.lower(): value for name, value in answer.headers.items()}
        return Reply(answer.status, found, await answer.read())


def text_of(path: str, found: Any) -> str:
    """What was said, in a document."""
    match path:
        case "/v1/responses":
            return str(found["output"][0]["content"][0]["text"])
        case "/v1/messages":
            return str(found["content"][0]["text"])
    choice = found["choices"][0]
    return str(choice.get("text") or choice["message"]["content"])


def streamed_text(path: str, events: list[Any]) -> str:
    match path:
        case "/v1/responses":
            return "".join(e["delta"] for e in events if e["type"].endswith("output_text.delta"))
        case "/v1/messages":
            deltas = [e["delta"] for e in events if e["type"] == "content_block_delta"]
            return "".join(delta["text"] for delta in deltas)
    choices = [c for e in events if e != "[DONE]" for c in e["choices"]]
    return "".join(c.get("text") or (c.get("delta") or {}).get("content") or "" for c in choices)


async def test_every_endpoint_under_another_name(fabric: Fabric) -> None:
    ingress = await fabric.ingress(routes={NAME: "echo"})
    await fabric.worker()
    await fabric.served("echo")
    for path, body in GENERATING.items():
        whole = await send(fabric, path, {"model": NAME, **body})
        assert (whole.status, whole.json["model"]) == (200, NAME), path
        assert text_of(path, whole.json) == "one two three"
        streamed = await send(
            fabric, path.removeprefix("/v1"), {"model": NAME, **body, "stream": True}
        )
        assert streamed.status == 200
        assert streamed_text(path, streamed.events) == "one two three"
        last = streamed.events[-1]
        assert last == "[DONE]" if path not in LAST else last["type"] == LAST[path]
        assert b'"model":"echo"' not in streamed.body
    for path, body in OTHERS.items():
        answer = await send(fabric, path, {"model": NAME, **body})
        assert answer.status == 200, answer.body
        assert answer.json.get("model", NAME) == NAME
    assert {line["asked"] for line in ingress.lines if line["event"] == "request"} == {NAME}
    async with fabric.session.get(fabric.url + "/v1/models", headers=fabric.headers) as listed:
        assert [model["id"] for model in (await listed.json())["data"]] == ["echo", NAME]
    await fabric.idle()


async def test_prompts_of_llama_server_are_refused_elsewhere(fabric: Fabric) -> None:
    await fabric.ingress()
    await fabric.worker()
    await fabric.served("echo")
    for path, own, param in (
        ("/v1/completions", {"prompt": ["a", {"prompt_string": "b"}]}, "prompt[1]"),
        ("/v1/embeddings", {"content": "a"}, "content"),
    ):
        answer = await send(fabric, path, {"model": "echo", **own})
        assert answer.error == (400, "invalid_request", param)
        assert "echo" in answer.json["error"]["message"]


async def test_embeddings_in_both_formats_and_large(fabric: Fabric) -> None:
    await fabric.ingress()
    await fabric.worker()
    await fabric.served("echo")
    inputs = [f"text {i} " + "x" * 200 for i in range(2048)]
    body = {"model": "echo", "input": inputs, "dimensions": 256}
    floats = await send(fabric, "/v1/embeddings", body)
    packed = await send(fabric, "/v1/embeddings", {**body, "encoding_format": "base64"})
    assert len(floats.body) > 2**22, "larger than a message of the broker"
    assert [item["index"] for item in floats.json["data"]] == list(range(2048))
    for number in (0, 2047):
        raw = base64.b64decode(packed.json["data"][number]["embedding"])
        vector = struct.unpack("<256f", raw)
        assert vector == pytest.approx(floats.json["data"][number]["embedding"], rel=1e-6)
    await fabric.idle()


async def test_choices_are_spread_over_workers(fabric: Fabric) -> None:
    await fabric.ingress()
    workers = [await fabric.worker("echo://?n=0&slots=1&token_ms=20") for _ in range(2)]
    await fabric.served("echo")
    for stream in (False, True):
        body = ask("a b c", n=2, stream=stream, stream_options={"include_usage": True})
        answer = await send(fabric, CHAT, body)
        found = answer.events[-2] if stream else answer.json
        assert found["usage"]["completion_tokens"] == 6
        if not stream:
            texts = [choice["message"]["content"] for choice in answer.json["choices"]]
            assert texts == ["a b c"] * 2
    assert await counts(workers, "runner.began", 4) == [2, 2]
    await fabric.idle()


async def test_more_choices_than_slots_come_in_their_turn(fabric: Fabric) -> None:
    await fabric.ingress()
    await fabric.worker("echo://?n=0&slots=2&token_ms=1")
    await fabric.served("echo")
    body = ask("a b", n=5, stream=True, stream_options={"include_usage": True})
    answer = await send(fabric, CHAT, body)
    said: dict[int, str] = {}
    for event in answer.events[:-1]:
        for choice in event["choices"]:
            index = choice["index"]
            said[index] = said.get(index, "") + (choice["delta"].get("content") or "")
    assert said == dict.fromkeys(range(5), "a b")
    assert answer.events[-2]["usage"]["completion_tokens"] == 10


async def test_a_client_that_leaves_ends_all_its_choices(fabric: Fabric) -> None:
    await fabric.ingress()
    worker = await fabric.worker("echo://?n=0&slots=3&token_ms=50")
    await fabric.served("echo")
    body = ask(" ".join("abcdefgh" * 20), n=3, stream=True)
    async with fabric.session.post(fabric.url + CHAT, json=body, headers=fabric.headers) as answer:
        await answer.content.readline()
        answer.close()
    for skip in range(3):
        await worker.logged("runner.ended", skip=skip, outcome="cancelled")
    await fabric.idle()


BROKEN: Mapping[str, bytes] = {
    CHAT: b'data: {"error":',
    "/v1/responses": b"event: error\n",
    "/v1/messages": b"event: error\n",
}
"""How the last event of a stream that broke begins."""


async def broken_stream(fabric: Fabric, path: str) -> Reply:
    """The answer to a client whose worker is killed once it has read two tokens. An engine's own
    fault would not do: if the ingress hears of it along with the head, it is a plain error."""
    worker = await fabric.worker()
    await fabric.served("echo")
    hang = {"echo": {"fault": "hang", "at": 2}, "stream": True}
    body = {"model": "echo", **GENERATING[path], **hang}
    async with fabric.session.post(fabric.url + path, json=body, headers=fabric.headers) as answer:
        found = {name.lower(): value for name, value in answer.headers.items()}
        read = b""
        while b"two" not in read:
            read += await answer.content.readline()
        await worker.kill()
        return Reply(answer.status, found, read + await answer.read())


@pytest.mark.parametrize("path", list(BROKEN))
async def test_a_stream_that_breaks_says_so_in_its_own_words(fabric: Fabric, path: str) -> None:
    await fabric.ingress({"ingress.absence": 0})
    answer = await broken_stream(fabric, path)
    last = answer.body.rstrip(b"\n").rpartition(b"\n\n")[2]
    assert last.startswith(BROKEN[path]), last
    event = json.loads(last.partition(b"data: ")[2])
    assert event["error"]["message"]
    if path == "/v1/messages":
        assert (event["type"], event["error"]["type"]) == ("error", "api_error")
        assert event["request_id"] == answer.headers["x-request-id"]


async def test_anthropics_errors_and_keys(fabric: Fabric) -> None:
    await fabric.ingress()
    await fabric.worker()
    await fabric.served("echo")
    body = {"model": "echo", **GENERATING["/v1/messages"]}
    key = fabric.headers["Authorization"].removeprefix("Bearer ")
    good = await send(fabric, "/v1/messages", body, Authorization="", x_api_key=key)
    bad = await send(fabric, "/v1/messages", body, Authorization="", x_api_key="sk-wrong")
    refused = await send(fabric, "/v1/messages", {**body, "echo": {"fault": "400"}})
    unknown = await send(fabric, "/v1/messages/count_tokens", {**body, "model": "none"})
    assert good.status == 200
    for answer, status, kind in (
        (bad, 401, "authentication_error"),
        (refused, 400, "invalid_request_error"),
        (unknown, 404, "not_found_error"),
    ):
        assert (answer.status, answer.json["type"]) == (status, "error")
        assert answer.json["error"]["type"] == kind
        assert answer.json["request_id"] == answer.headers["request-id"]
    async with fabric.session.get(fabric.url + "/v1/messages", headers=fabric.headers) as wrong:
        assert (wrong.status, (await wrong.json())["type"]) == (405, "error")


async def test_an_answer_is_asked_for_again_until_it_fits(fabric: Fabric) -> None:
    await fabric.ingress()
    worker = await fabric.worker()
    await fabric.served("echo")
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    script = {"says": ['{"a": "no"}', '{"a": 1}'], "as": "one"}
    answer = await send(fabric, CHAT, ask("x", response_format=wanted, echo=script))
    assert json.loads(text_of(CHAT, answer.json)) == {"a": 1}
    assert await counts([worker], "runner.began", 2) == [2]
    never = await send(fabric, CHAT, ask("no json", response_format=wanted))
    assert (never.status, never.json["error"]["code"]) == (502, "invalid_structured_output")
    assert await counts([worker], "runner.began", 4) == [4]
    await fabric.idle()


async def test_a_call_is_asked_for_again_until_it_fits(fabric: Fabric) -> None:
    await fabric.ingress()
    worker = await fabric.worker()
    await fabric.served("echo")
    schema = {"type": "object", "properties": {"a": {"pattern": r"^\p{L}\d$"}}, "required": ["a"]}
    function = {"name": "f", "strict": True, "parameters": schema}
    body = ask("x", tools=[{"type": "function", "function": function}], tool_choice="required")

    def call(a: str) -> dict[str, Any]:
        return {"calls": [{"name": "f", "arguments": {"a": a}}]}

    fits = await send(fabric, CHAT, {**body, "echo": call("\u00e95")})
    assert fits.json["choices"][0]["finish_reason"] == "tool_calls"
    assert await counts([worker], "runner.began", 1) == [1]
    never = await send(fabric, CHAT, {**body, "echo": call("55")})
    assert (never.status, never.json["error"]["code"]) == (502, "invalid_structured_output")
    assert "the arguments of 'f'" in never.json["error"]["message"]
    assert await counts([worker], "runner.began", 3) == [3]
    message = {"model": "echo", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
    tool = {"name": "f", "strict": True, "input_schema": schema}
    choice = {"type": "any"}
    asked = {**message, "tools": [tool], "tool_choice": choice, "echo": call("55")}
    refused = await send(fabric, "/v1/messages", asked)
    assert (refused.status, refused.json["error"]["code"]) == (502, "invalid_structured_output")
    await fabric.idle()


async def test_many_schemas_at_once(fabric: Fabric) -> None:
    await fabric.ingress()
    await fabric.worker("echo://?slots=16")
    await fabric.served("echo")

    async def one(number: int) -> None:
        schema = {"type": "object", "properties": {"a": {"const": number}}, "required": ["a"]}
        wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        said = {"says": [json.dumps({"a": number})]}
        answer = await send(fabric, CHAT, ask("x", response_format=wanted, echo=said))
        assert answer.json["choices"][0]["message"]["content"] == said["says"][0]

    await asyncio.gather(*(one(number) for number in range(40)))


async def test_a_models_page_says_what_it_can_do(fabric: Fabric) -> None:
    await fabric.ingress()
    await fabric.worker()
    await fabric.served("echo")
    async with fabric.session.get(fabric.url + "/v1/models/echo", headers=fabric.headers) as shown:
        facts = (await shown.json())["headrace"]
    assert {"embeddings", "rerank", "n"} <= set(facts["features"])
    assert facts["ignores"] == {}
