"""The bytes that llama-server answers with: heads, bodies, stream chunks.

Source: replies of llama.cpp b11549 (as `xllamacpp` carries it), read off the socket: order and
casing of the headers, order of the JSON keys, what shares an HTTP chunk (the role and the first
token; the finish and the usage event), where `usage` and `timings` ride. Prompt counts are fixed
at `PROMPT_TOKENS`, as the double has no tokenizer.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Literal

import orjson

PROMPT_TOKENS = 16
FINGERPRINT = "b0-unknown"
KEEP_ALIVE_SECONDS = 5
KEEP_ALIVE_MAX = 100
STREAM_END = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"

JSON = b"application/json; charset=utf-8"
_KEPT = b"Keep-Alive: timeout=%d, max=%d\r\n\r\n" % (KEEP_ALIVE_SECONDS, KEEP_ALIVE_MAX)
_CLOSED = b"Connection: close\r\n\r\n"
# Stand-ins of the right length: a reply is rendered once and filled in per request.
_ID = "chatcmpl-" + "@" * 32
_CREATED = 1111111111

Kind = Literal["chat", "text"]


@dataclass(frozen=True)
class Shape:
    """What a reply's bytes depend on, apart from its id and its time."""

    kind: Kind
    tokens: int
    finish: Literal["stop", "length"]
    usage: bool
    model: str
    token_ms: float
    words: tuple[str, ...] = ()
    """What is said, instead of ``w0 w1 …``."""
    begun: int = 0
    """How many tokens the request has said already."""
    thoughts: int = 0
    """How many tokens of thoughts come first. The one behind them ends them, and is in no event."""

    def word(self, index: int) -> str:
        """Text of the token `index`; the sum of them is the reply's text."""
        index += self.begun
        if self.thoughts and index == self.thoughts:
            return ""
        said = self.words[index] if self.words else f"w{index}"
        is_first = index in (0, self.thoughts and self.thoughts + 1)
        return said if is_first else f" {said}"

    def field(self, index: int) -> str:
        """Where that text stands."""
        return "reasoning_content" if index + self.begun < self.thoughts else "content"

    @property
    def predicted(self) -> int:
        """Tokens decoded: a natural stop takes one more, the end-of-sequence token."""
        return self.tokens + (self.finish == "stop")


def head(status: int, length: int, keep: bool, kind: bytes = JSON, extra: bytes = b"") -> bytes:
    """The head of a reply with a known length; `extra` are whole header lines."""
    return (
        b"HTTP/1.1 %b\r\nServer: llama.cpp\r\nAccess-Control-Allow-Origin: \r\n%b"
        b"Content-Type: %b\r\nContent-Length: %d\r\n%b"
    ) % (_status(status), extra, kind, length, _KEPT if keep else _CLOSED)


@lru_cache
def _status(status: int) -> bytes:
    return f"{status} {HTTPStatus(status).phrase}".encode()


def chunk(data: bytes) -> bytes:
    """One HTTP chunk; of nothing it is the last."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def stream_head(keep: bool) -> bytes:
    """The head of an event stream."""
    return (
        b"HTTP/1.1 200 OK\r\nServer: llama.cpp\r\nAccess-Control-Allow-Origin: \r\n"
        b"X-Accel-Buffering: no\r\nContent-Type: text/event-stream\r\n"
        b"Transfer-Encoding: chunked\r\n" + (_KEPT if keep else _CLOSED)
    )


def error(status: int, message: str, kind: str = "invalid_request_error") -> bytes:
    """The body of an error; the key order differs between the router's and the handlers' errors."""
    if kind == "not_found_error":
        return orjson.dumps({"error": {"message": message, "type": kind, "code": status}})
    return orjson.dumps({"error": {"code": status, "message": message, "type": kind}})


def text(tokens: int) -> str:
    """Text of a reply of `tokens` tokens."""
    return " ".join(f"w{index}" for index in range(tokens))


def reply(shape: Shape, ident: str) -> bytes:
    """The JSON body of a reply that is not streamed."""
    return _fill(_reply(shape), ident)


def chunks(shape: Shape, ident: str) -> tuple[bytes, tuple[int, ...]]:
    """A streamed reply without its head, and where in it each token's HTTP chunk ends.

    What follows the last of these ends is the finish, `[DONE]` and the last chunk.
    """
    body, ends = _chunks(shape)
    return _fill(body, ident), ends


def _fill(template: bytes, ident: str) -> bytes:
    filled = template.replace(_ID.encode(), ident.encode())
    return filled.replace(b"%d" % _CREATED, b"%d" % time.time())


def timings(shape: Shape) -> dict[str, Any]:
    """`timings` of a reply at the mock's pace; llama-server writes 0.001 ms for no time at all."""
    spent = shape.predicted * shape.token_ms or 0.001
    return {
        "cache_n": 0,
        "prompt_n": PROMPT_TOKENS,
        "prompt_ms": 1.0,
        "prompt_per_token_ms": 1.0 / PROMPT_TOKENS,
        "prompt_per_second": 1000.0 * PROMPT_TOKENS,
        "predicted_n": shape.predicted,
        "predicted_ms": spent,
        "predicted_per_token_ms": spent / shape.predicted,
        "predicted_per_second": 1000.0 * shape.predicted / spent,
    }


def usage(shape: Shape) -> dict[str, Any]:
    """`usage` of a reply."""
    prompt = PROMPT_TOKENS + shape.begun
    return {
        "completion_tokens": shape.predicted,
        "prompt_tokens": prompt,
        "total_tokens": prompt + shape.predicted,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


@lru_cache
def _reply(shape: Shape) -> bytes:
    choice: dict[str, Any]
    if shape.kind == "chat":
        message = {"role": "assistant", **_parts(shape)}
        choice = {"finish_reason": shape.finish, "index": 0, "message": message}
    else:
        said = "".join(map(shape.word, range(shape.tokens)))
        choice = {"text": said, "index": 0, "logprobs": None, "finish_reason": shape.finish}
    return orjson.dumps(
        {
            "choices": [choice],
            "created": _CREATED,
            "model": shape.model,
            "system_fingerprint": FINGERPRINT,
            "object": "chat.completion" if shape.kind == "chat" else "text_completion",
            "usage": usage(shape),
            "id": _ID,
            "timings": timings(shape),
        }
    )


def _parts(shape: Shape) -> dict[str, str]:
    """The text of a chat, and its thoughts if it has some."""
    found = {"content": ""}
    for index in range(shape.tokens):
        field = shape.field(index)
        found[field] = found.get(field, "") + shape.word(index)
    return found


@lru_cache
def _chunks(shape: Shape) -> tuple[bytes, tuple[int, ...]]:
    body, ends = b"", []
    for events in (_chat_events if shape.kind == "chat" else _text_events)(shape):
        data = b"".join(b"data: %b\n\n" % orjson.dumps(event) for event in events)
        body += chunk(data) if data else b""
        ends.append(len(body))
    return body + STREAM_END, tuple(ends[:-1])


def _chat_events(shape: Shape) -> list[list[dict[str, Any]]]:
    """Events by HTTP chunk: one per token and the finish."""
    tail = {
        "created": _CREATED,
        "id": _ID,
        "model": shape.model,
        "system_fingerprint": FINGERPRINT,
        "object": "chat.completion.chunk",
    }

    def event(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {"choices": [{"finish_reason": finish, "index": 0, "delta": delta}], **tail}

    said = ((shape.field(index), shape.word(index)) for index in range(shape.tokens))
    groups = [[event({field: word})] if word else [] for field, word in said]
    groups[0].insert(0, event({"role": "assistant", "content": None}))
    last = [event({}, shape.finish)]
    if shape.usage:
        last.append({"choices": [], **tail, "usage": usage(shape)})
    last[-1]["timings"] = timings(shape)
    return [*groups, last]


def _text_events(shape: Shape) -> list[list[dict[str, Any]]]:
    """As `_chat_events`; here `usage` is always on the last event, before the id."""

    def event(said: str, finish: str | None = None, **more: Any) -> dict[str, Any]:
        choice = {"text": said, "index": 0, "logprobs": None, "finish_reason": finish}
        return {
            "choices": [choice],
            "created": _CREATED,
            "model": shape.model,
            "system_fingerprint": FINGERPRINT,
            "object": "text_completion",
            **more,
            "id": _ID,
        }

    groups = [[event(shape.word(index))] for index in range(shape.tokens)]
    last = event("", shape.finish, usage=usage(shape))
    return [*groups, [last | {"timings": timings(shape)}]]
