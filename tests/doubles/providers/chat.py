"""Chat completions on the wire, as OpenAI sends them and in the dialects of those who copy it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.doubles.base import DONE, sse
from tests.doubles.providers import words
from tests.doubles.providers.base import EXCHANGE, FAULT, Provider, ident
from tests.doubles.providers.faults import Refused
from tests.doubles.providers.flow import Flow, Piece


@dataclass(frozen=True, slots=True)
class Dialect:
    """Where a provider differs. `extra`: fields of every document and chunk. `metering`: "asked"
    (a last chunk for `include_usage`), "last" (always in the last chunk with a choice), "each"
    (if asked for, in every chunk, for what was sent so far). `details`: the usage has its details.
    `thinking`: `completion_tokens` has the reasoning; the total has it in any case. `opening`: a
    chunk with the role alone goes first. `heartbeat`: a comment before it. `calls_whole`: a
    call comes in one piece, without index and id, and its stream ends with "stop", as Gemini's.
    `meter` changes the usage; `first` and `last` give, of the usage, more fields of the first and
    the finishing chunk.
    """

    prefix: str = "chatcmpl-"
    extra: Mapping[str, Any] = field(default_factory=dict)
    metering: str = "asked"
    details: bool = True
    opening: bool = True
    padded: bool = False
    heartbeat: bytes = b""
    done: bytes = DONE
    thinking: bool = True
    calls_whole: bool = False
    meter: Callable[[dict[str, Any]], dict[str, Any]] = lambda usage: usage
    first: Callable[[], dict[str, Any]] = dict
    last: Callable[[dict[str, Any]], dict[str, Any]] = lambda usage: {}


@dataclass(slots=True)
class Told:
    """What a chat is answered with: text or calls (name, pieces of the arguments)."""

    pieces: list[str]
    reason: str
    calls: list[tuple[str, list[str]]] = field(default_factory=list)
    n: int = 1

    @property
    def tokens(self) -> int:
        called = sum(len(arguments) for _, arguments in self.calls)
        return (called or len(self.pieces)) * self.n


def compose(sim: Provider, asked: Mapping[str, Any], *, format_held: bool = True) -> Told:
    """The answer to `asked`. `format_held`: whether `response_format` is heeded."""
    said = words.last_user(asked["messages"])
    tools = [(t["function"]["name"], t["function"].get("parameters")) for t in _tools(asked)]
    calls = words.called(tools, _choice(asked.get("tool_choice")), said)
    n = int(asked.get("n") or 1)
    if calls:
        return Told([], "tool_calls", calls, n)
    form = asked.get("response_format") or {}
    pieces = words.answer(said, sim.pace.tokens)
    if format_held and form.get("type") in ("json_object", "json_schema"):
        pieces = words.constrained((form.get("json_schema") or {}).get("schema"))
    limit = asked.get("max_completion_tokens") or asked.get("max_tokens")
    pieces, reason, _ = words.cut_to(pieces, limit, asked.get("stop"))
    return Told(pieces, "length" if reason == "length" else "stop", n=n)


def _tools(asked: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [tool for tool in asked.get("tools") or () if tool.get("type") == "function"]


def _choice(choice: Any) -> str:
    return choice["function"]["name"] if isinstance(choice, dict) else str(choice or "auto")


class Chat:
    """One chat completion, of `told`, in `dialect`."""

    def __init__(
        self, request: web.Request, sim: Provider, dialect: Dialect, told: Told, prompt: int
    ) -> None:
        asked = request[EXCHANGE].body
        self._sim, self._dialect, self._told, self._prompt = sim, dialect, told, prompt
        self._metered = request[FAULT].metered
        self._options = asked.get("stream_options") or {}
        self._logprobs = bool(asked.get("logprobs"))
        self._sent = 0
        self._base = {
            "id": ident(dialect.prefix),
            "created": int(time.time()),
            "model": sim.models.get(asked["model"], asked["model"]),
            **dialect.extra,
        }

    def flow(self, stream: bool, error: Any) -> Flow:
        """`error`: makes the document of a Refused, for the event in the middle."""
        if not stream:
            pieces = [Piece(self._told.n, piece) for piece in self._spoken()]
            return Flow(pieces, whole=self.document)
        pieces = self._pieces()
        tail = b"".join(self._finish(index) for index in range(self._told.n)) + self._metering()
        head = self._dialect.heartbeat
        if self._dialect.opening:
            head += b"".join(self._open(index) for index in range(self._told.n))
        return Flow(
            pieces,
            head,
            tail,
            self._dialect.done,
            error=lambda refused: sse(error(refused)),
        )

    def usage(self, sent: int | None = None) -> dict[str, Any]:
        """For `sent` tokens, or for all."""
        reasoning = self._sim.pace.reasoning
        said = self._told.tokens if sent is None else sent
        found: dict[str, Any] = {
            "prompt_tokens": self._prompt,
            "completion_tokens": said + reasoning if self._dialect.thinking else said,
            "total_tokens": self._prompt + said + reasoning,
        }
        if self._dialect.details:
            cached = min(self._sim.pace.cached, self._prompt)
            found["prompt_tokens_details"] = {"cached_tokens": cached, "audio_tokens": 0}
            found["completion_tokens_details"] = {
                "reasoning_tokens": reasoning,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            }
        return self._dialect.meter(found)

    def document(self) -> dict[str, Any]:
        choices = [self._choice(index) for index in range(self._told.n)]
        found = {**self._base, "object": "chat.completion", "choices": choices}
        return {**found, "usage": self.usage()} if self._metered else found

    def _choice(self, index: int) -> dict[str, Any]:
        told = self._told
        message: dict[str, Any] = {"role": "assistant", "content": "".join(told.pieces)}
        if told.calls:
            message["content"] = None
            message["tool_calls"] = [call(name, "".join(args)) for name, args in told.calls]
        if self._dialect.details:
            message |= {"refusal": None, "annotations": []}
        probable = logprobs(told.pieces) if self._logprobs else None
        return {
            "index": index,
            "message": message,
            "logprobs": probable,
            "finish_reason": told.reason,
        }

    # The stream

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        reason: str | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> bytes:
        probable = None
        if self._logprobs and delta.get("content"):
            probable = logprobs([delta["content"]])
        choice = {"index": index, "delta": delta, "logprobs": probable, "finish_reason": reason}
        found = {**self._base, "object": "chat.completion.chunk", "choices": [choice]}
        if reason and self._metered:
            found |= self._dialect.last(self.usage())
        found |= {**self._measured(reason), **(more or {})}
        if self._dialect.padded and self._options.get("include_obfuscation", True):
            found["obfuscation"] = ident("", 4)
        return sse(found)

    def _measured(self, reason: str | None) -> dict[str, Any]:
        """What a chunk with choices says of the usage."""
        metering, wanted = self._dialect.metering, self._options.get("include_usage")
        if metering == "asked" and wanted:
            return {"usage": None}
        if self._metered and ((metering == "each" and wanted) or (metering == "last" and reason)):
            return {"usage": self.usage(self._sent)}
        return {}

    def _open(self, index: int) -> bytes:
        delta: dict[str, Any] = {"role": "assistant", "content": None if self._told.calls else ""}
        if self._dialect.details:
            delta["refusal"] = None
        return self._chunk(index, delta, more=self._dialect.first())

    def _pieces(self) -> list[Piece]:
        if self._told.calls:
            return self._called()
        role = {} if self._dialect.opening else {"role": "assistant"}
        found = []
        for tokens, text in words.grouped(self._told.pieces, self._sim.pace.per_event):
            for index in range(self._told.n):
                self._sent += tokens
                raw = self._chunk(index, {**role, "content": text})
                found.append(Piece(tokens, text if index == 0 else "", raw))
        return found

    def _called(self) -> list[Piece]:
        found, role = [], {} if self._dialect.opening else {"role": "assistant"}
        for number, (name, made) in enumerate(self._told.calls):
            arguments = ["".join(made)] if self._dialect.calls_whole else made
            weight = len(made) // len(arguments) * self._told.n
            for at, part in enumerate(arguments):
                delta: dict[str, Any] = {"index": number, "function": {"arguments": part}}
                if at == 0:
                    delta = {"index": number, **call(name, part)}
                if self._dialect.calls_whole:
                    delta = {"function": delta["function"], "id": "", "type": "function"}
                self._sent += weight
                raw = b"".join(
                    self._chunk(index, {**role, "tool_calls": [delta]})
                    for index in range(self._told.n)
                )
                found.append(Piece(weight, part, raw))
        return found

    def _finish(self, index: int) -> bytes:
        delta = {} if self._dialect.opening else {"role": "assistant"}
        stops = self._dialect.calls_whole and self._told.calls
        return self._chunk(index, delta, "stop" if stops else self._told.reason)

    def _metering(self) -> bytes:
        """The chunk without choices that `include_usage` asks for."""
        asked = self._options.get("include_usage") and self._dialect.metering == "asked"
        if not asked or not self._metered:
            return b""
        chunk = {**self._base, "object": "chat.completion.chunk", "choices": []}
        return sse({**chunk, "usage": self.usage()})

    def _spoken(self) -> list[str]:
        return [part for _, args in self._told.calls for part in args] or self._told.pieces


def call(name: str, arguments: str) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": ident("call_", 12), "type": "function", "function": function}


def logprobs(pieces: list[str]) -> dict[str, Any]:
    told = [
        {"token": piece, "logprob": -0.5, "bytes": list(piece.encode()), "top_logprobs": []}
        for piece in pieces
    ]
    return {"content": told, "refusal": None}


def check(asked: Any) -> None:
    """What every chat needs. Raises Refused."""
    if not isinstance(asked, dict):
        why = "We could not parse the JSON body of your request. (HINT: This likely means you "
        raise Refused(400, f"{why}aren't using your HTTP library correctly.)")
    if not asked.get("model"):
        raise Refused(400, "you must provide a model parameter")
    messages = asked.get("messages")
    if messages is None:
        why = "Missing required parameter: 'messages'."
        raise Refused(400, why, code="missing_required_parameter", param="messages")
    if not isinstance(messages, list):
        why = "Invalid type for 'messages': expected an array of objects, but got "
        end = f"{type(messages).__name__} instead."
        raise Refused(400, why + end, code="invalid_type", param="messages")
    if not messages:
        why = "Invalid 'messages': empty array. Expected an array with minimum length 1, but got "
        end = "an empty array instead."
        raise Refused(400, why + end, code="empty_array", param="messages")
