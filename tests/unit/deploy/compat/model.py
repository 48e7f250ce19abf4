"""A server that does everything right, except for what it is told to pass over.

`ignores`: names of fields that it drops in silence before it answers, as the worst servers do;
`forced`: fields that it sets to values of its own.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson

from deploy.compat.samples import speech
from deploy.compat.target import Facts, Target
from deploy.compat.transport import Answer, Ask, Flow, Open
from schemas import multipart
from tests.doubles.sdserver.pictures import png

MODEL = "mill"
FACTS = Facts(("echo",), ("node-1",), ("chat",), context=128, listens="0.0.0.0")
Body = dict[str, Any]
Edit = Callable[[Any], Any]
"""From a right answer (a document, or a list of events) to a wrong one."""


def error(status: int, code: str, message: str, param: str | None = None) -> Answer:
    kind = "invalid_request_error"
    told = {"message": message, "type": kind, "param": param, "code": code}
    return Answer(status, {"x-request-id": "r"}, orjson.dumps({"error": told}))


class Model:
    """`edit` changes each answer of status 200; `asked` has all bodies that came."""

    def __init__(self, *ignores: str, edit: Edit = lambda found: found, **forced: Any) -> None:
        self.ignores = ignores
        self.forced = forced
        self.edit = edit
        self.asked: list[Body] = []
        self._rolls = 0

    def target(self, facts: Facts = FACTS) -> Target:
        return Target(MODEL, facts, whole(self.send))

    async def send(self, ask: Ask) -> Answer:
        body = _read(ask)
        self.asked.append(body)
        for name in self.ignores:
            body.pop(name, None)
        body |= self.forced
        found = self._answer(ask.path, body)
        if isinstance(found, Answer):
            return found
        found = self.edit(found)
        headers = {"x-headrace-served-by": "node:node-1"}
        if isinstance(found, bytes):
            return Answer(200, {**headers, "content-type": _form(body)}, found)
        if isinstance(found, list):
            events = [each if isinstance(each, bytes) else orjson.dumps(each) for each in found]
            raw = b"".join(b"data: %b\n\n" % event for event in events)
            return Answer(200, {**headers, "content-type": "text/event-stream"}, raw)
        return Answer(200, {**headers, "content-type": "application/json"}, orjson.dumps(found))

    def _answer(self, path: str, body: Body) -> Any:
        match path.removeprefix("/v1"):
            case "/api/chat":
                return _as_ollama(body)
            case "/chat/completions":
                return self._chat(body)
            case "/completions":
                return _continued(body)
            case "/embeddings":
                return _embedded(body)
            case "/moderations":
                names = {"violence": False, "hate": False}
                verdict = {"flagged": False, "categories": names, "category_scores": dict(names)}
                return {"results": [verdict for _ in body["input"]]}
            case "/rerank":
                ranks = [(1, 0.9), (2, 0.2), (0, 0.1)]
                return {"results": [{"index": i, "relevance_score": s} for i, s in ranks]}
            case "/tokenize":
                ids = [*body["content"].encode()]
                return {"tokens": ids, "count": len(ids)}
            case "/detokenize":
                return {"content": bytes(body["tokens"]).decode()}
            case "/apply-template":
                return {"prompt": f"user: {body['messages'][0]['content']}"}
            case "/completion":
                return {"content": " east.", "stop": True}
            case "/responses":
                return _responded(body)
            case "/messages":
                return _messaged(body)
            case "/messages/count_tokens":
                return {"input_tokens": len(body["messages"][0]["content"].split())}
            case "/images/generations" | "/images/edits":
                side = int(str(body.get("size", "512x512")).partition("x")[0])
                return {
                    "data": [
                        {"b64_json": base64.b64encode(png(side, side, bytes(3 * side))).decode()}
                    ]
                }
            case "/audio/transcriptions" | "/audio/translations":
                return _heard(body)
        return error(404, "not_found", "no such path")

    def _chat(self, body: Body) -> Any:
        if (prompt := _prompt(body)) > FACTS.context:
            return error(400, "context_length_exceeded", "too long", "messages")
        if body.get("temperature", 0) > 2:
            return error(400, "invalid_request", "too hot", "temperature")
        wanted = (body.get("response_format") or {}).get("json_schema") or {}
        if "nonsense" in str(wanted):
            return error(400, "invalid_request", "no schema", "response_format.json_schema.schema")
        choices = [self._choice(index, body) for index in range(body.get("n") or 1)]
        generated = sum(choice.pop("count") for choice in choices)
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": generated,
            "total_tokens": prompt + generated,
        }
        if body.get("stream"):
            return _events(choices, usage, body)
        kind = "chat.completion"
        return {"id": "c", "object": kind, "model": MODEL, "choices": choices, "usage": usage}

    def _choice(self, index: int, body: Body) -> Body:
        message: Body = {"role": "assistant"}
        if calls := _calls(body):
            message |= {"content": None, "tool_calls": calls}
            return {"index": index, "message": message, "finish_reason": "tool_calls", "count": 9}
        tokens, end = self._tokens(body)
        choice = {"index": index, "message": message, "finish_reason": end, "count": len(tokens)}
        message["content"] = "".join(tokens)
        if body.get("logprobs"):
            tops = [{"token": "x", "logprob": -0.1}, {"token": "y", "logprob": -2.0}]
            each = [{"token": t, "logprob": -0.1, "top_logprobs": tops} for t in tokens]
            choice["logprobs"] = {"content": each}
        return choice

    def _tokens(self, body: Body) -> tuple[list[str], str]:
        kind = (body.get("response_format") or {}).get("type")
        if kind:
            said = {"mill": "wheel-7", "turns": True} if kind == "json_schema" else {"turns": True}
            return [orjson.dumps(said).decode()], "stop"
        limit = body.get("max_tokens") or body.get("max_completion_tokens") or 200
        text = "".join(f"{number}, " for number in self._numbers(body))
        ends = [text.find(stop) for stop in _stops(body) if stop in text]
        tokens = [f"{each} " for each in (text[: min(ends)] if ends else text).split()]
        if body["messages"][-1]["role"] == "assistant":
            tokens[0] = f" {tokens[0]}"
        if len(tokens) > limit:
            return tokens[:limit], "length"
        return tokens, "stop"

    def _numbers(self, body: Body) -> range:
        """Sure of itself it counts from one; else from where chance has it."""
        if body.get("temperature", 1) == 0 or body.get("top_p", 1) < 0.01:
            last = body["messages"][-1]
            begun = last["content"].count(",") if last["role"] == "assistant" else 0
            return range(1 + begun, 101)
        self._rolls += 1
        start = 100 * (body.get("seed") or self._rolls + 50)
        return range(start, start + 100)


def whole(send: Callable[[Ask], Awaitable[Answer]]) -> Open:
    """Who answers in one piece."""

    @asynccontextmanager
    async def ask(asked: Ask) -> AsyncIterator[Flow]:
        answer = await send(asked)

        async def chunks() -> AsyncIterator[bytes]:
            yield answer.body

        yield answer.status, answer.headers, chunks()

    return ask


def _read(ask: Ask) -> Body:
    if not ask.body or ask.content_type == "application/json":
        found: Body = orjson.loads(ask.body or b"{}")
        return found
    parts = multipart.parse(ask.body, ask.content_type)
    return {part.name: part.content.decode() for part in parts if part.filename is None}


def _prompt(body: Body) -> int:
    count = 4
    for message in body["messages"]:
        content = message.get("content") or ""
        for part in content if isinstance(content, list) else [{"text": content}]:
            count += 16 if "image_url" in part else len(part["text"].split())
    return count


def _stops(body: Body) -> list[str]:
    stops = body.get("stop") or []
    return [stops] if isinstance(stops, str) else stops


def _calls(body: Body) -> list[Body]:
    if body.get("tool_choice") != "required" or not body.get("tools"):
        return []
    two = "Rome" in body["messages"][-1]["content"]
    cities = ("Paris", "Rome") if two else ("Paris",)
    return [
        {
            "id": f"call-{city}",
            "type": "function",
            "function": {"name": "get_weather", "arguments": f'{{"city": "{city}"}}'},
        }
        for city in cities
    ]


def _events(choices: list[Body], usage: Body, body: Body) -> list[Any]:
    found: list[Any] = []

    def say(index: int, delta: Body, end: str | None = None) -> None:
        choice = {"index": index, "delta": delta, "finish_reason": end}
        found.append({"id": "c", "choices": [choice]})

    for choice in choices:
        index, message = choice["index"], choice["message"]
        say(index, {"role": "assistant", "content": ""})
        for piece in (message.get("content") or "").split(" "):
            say(index, {"content": f"{piece} "})
        for number, call in enumerate(message.get("tool_calls") or []):
            said = call["function"]["arguments"]
            head = {"name": call["function"]["name"], "arguments": said[:4]}
            tail = {"index": number, "function": {"arguments": said[4:]}}
            say(index, {"tool_calls": [{"index": number, "id": call["id"], "function": head}]})
            say(index, {"tool_calls": [tail]})
        say(index, {}, choice["finish_reason"])
    if (body.get("stream_options") or {}).get("include_usage"):
        found.append({"id": "c", "choices": [], "usage": usage})
    return [*found, b"[DONE]"]


def _continued(body: Body) -> Any:
    choice = {"index": 0, "text": " east", "finish_reason": "length"}
    found = {"object": "text_completion", "model": MODEL, "choices": [choice]}
    if not body.get("stream"):
        return found
    usage = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}
    counted = {**found, "choices": [], "usage": usage}
    return [found, *([counted] if body.get("stream_options") else []), b"[DONE]"]


def _embedded(body: Body) -> Body:
    given = body["input"]
    texts = given if isinstance(given, list) else [given]
    vectors: list[Any] = [[1.0, float(len(text) % 7) - 5.5, 1.0] for text in texts]
    if body.get("encoding_format") == "base64":
        vectors = [base64.b64encode(struct.pack("<3f", *vector)).decode() for vector in vectors]
    return {"data": [{"index": i, "embedding": v} for i, v in enumerate(vectors)]}


def _responded(body: Body) -> Any:
    part = {"type": "output_text", "text": "Hello."}
    whole = {
        "status": "completed",
        "output": [{"content": [part]}],
        "usage": {"output_tokens": 2},
    }
    if not body.get("stream"):
        return whole
    delta = {"type": "response.output_text.delta", "delta": "Hello."}
    return [delta, {"type": "response.completed", "response": whole}]


def _as_ollama(body: Body) -> Any:
    said = {"model": MODEL, "message": {"role": "assistant", "content": "Hello."}, "done": False}
    end = {"done": True, "eval_count": 2}
    if body.get("stream") is False:
        return {**said, **end}
    lines = [said, {**said, "message": {"content": ""}, **end}]
    return b"".join(orjson.dumps(line) + b"\n" for line in lines)


def _messaged(body: Body) -> Any:
    if body.get("tool_choice") and body.get("tools"):
        return _demanded(body)
    if body.get("stream"):
        return [{"type": f"{each}"} for each in ("message_start", "content_block_delta")] + [
            {"type": "message_stop"}
        ]
    return {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": "Hello."}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 3, "output_tokens": 2},
    }


def _demanded(body: Body) -> Any:
    """A call as Anthropic has it."""
    if body.get("stream"):
        return [
            {"type": "content_block_delta", "delta": {"type": "text_delta", "text": ""}},
            {"type": "content_block_delta", "delta": {"partial_json": '{"city": '}},
            {"type": "content_block_delta", "delta": {"partial_json": '"Paris"}'}},
        ]
    call = {"type": "tool_use", "name": "get_weather", "input": {"city": "Paris"}}
    return {"content": [call], "stop_reason": "tool_use"}


def _heard(body: Body) -> Any:
    says = f"{speech()['says'].capitalize()}."
    match body.get("response_format"):
        case "text":
            return says.encode()
        case "srt":
            return f"1\n00:00:00,000 --> 00:00:02,000\n{says}\n".encode()
        case "vtt":
            return f"WEBVTT\n\n00:00.000 --> 00:02.000\n{says}\n".encode()
        case "verbose_json":
            segment = {"start": 0.0, "end": 2.0, "text": says}
            return {"text": says, "duration": 2.8, "segments": [segment]}
    return {"text": says}


def _form(body: Body) -> str:
    forms = {"srt": "application/x-subrip", "vtt": "text/vtt"}
    return forms.get(body.get("response_format", ""), "text/plain; charset=utf-8")
