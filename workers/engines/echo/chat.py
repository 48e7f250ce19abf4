"""The echo engine's chat and text completions, in llama-server's own bytes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import orjson

from schemas.api import endpoints
from schemas.jobs import Job
from workers.engines.echo.words import Token

LOGPROB = -0.5


class Completions:
    """Chat and text completions."""

    def __init__(
        self, job: Job, request: Mapping[str, Any], choices: int, finish: str, prompt: int
    ) -> None:
        self.generated = 0
        self.job = job
        self.prompt = prompt
        self.finish = finish
        self.said: list[list[Token]] = [[] for _ in range(choices)]
        self._chat = job.endpoint == endpoints.CHAT.path
        self._usage = (request.get("stream_options") or {}).get("include_usage")
        self._probable = request.get("logprobs") not in (None, False)
        self._created = int(time.time())

    def head(self) -> bytes:
        if not self._chat:
            return b""
        delta = {"role": "assistant", "content": None}
        return b"".join(self._event(index, delta=delta) for index in range(len(self.said)))

    def add(self, choice: int, token: Token) -> bytes:
        self.said[choice].append(token)
        self.generated += 1
        if self._chat:
            return self._event(choice, [token], delta=_delta(self.job, choice, token))
        return self._event(choice, [token], text=token.text)

    def tail(self) -> bytes:
        ended: dict[str, Any] = {"delta": {}} if self._chat else {"text": ""}
        closing = b"".join(
            self._event(index, finish=self.finish, **ended) for index in range(len(self.said))
        )
        if self._usage:
            closing += sse({**self._top([], ".chunk"), "usage": self._count()})
        return closing + b"data: [DONE]\n\n"

    def document(self) -> bytes:
        choices = [self._choice(index, tokens) for index, tokens in enumerate(self.said)]
        return orjson.dumps({**self._top(choices), "usage": self._count()})

    def _choice(self, index: int, tokens: list[Token]) -> dict[str, Any]:
        whole = {"finish_reason": self.finish, "index": index, **self._logprobs(tokens)}
        text = "".join(token.text for token in tokens)
        if not self._chat:
            return {**whole, "text": text}
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if thought := "".join(token.thought for token in tokens):
            message["reasoning_content"] = thought
        if calls := calls_of(self.job, index, tokens):
            message |= {"content": None, "tool_calls": calls}
        return {**whole, "message": message}

    def _event(
        self, index: int, tokens: list[Token] | None = None, finish: str | None = None, **rest: Any
    ) -> bytes:
        choice = {"finish_reason": finish, "index": index, **rest, **self._logprobs(tokens or [])}
        return sse(self._top([choice], ".chunk"))

    def _logprobs(self, tokens: list[Token]) -> dict[str, Any]:
        texts = [token.text for token in tokens if token.text]
        if not self._probable or not texts:
            return {}
        if self._chat:
            one = [{"token": text, "logprob": LOGPROB, "bytes": [*text.encode()]} for text in texts]
            return {"logprobs": {"content": [{**each, "top_logprobs": [each]} for each in one]}}
        tops = [{text: LOGPROB} for text in texts]
        probable = {"tokens": texts, "token_logprobs": [LOGPROB] * len(texts)}
        return {"logprobs": {**probable, "top_logprobs": tops, "text_offset": [0] * len(texts)}}

    def _top(self, choices: list[Any], suffix: str = "") -> dict[str, Any]:
        kind = f"chat.completion{suffix}" if self._chat else "text_completion"
        return {
            "choices": choices,
            "created": self._created,
            "id": f"chatcmpl-{self.job.id}",
            "model": self.job.asked,
            "object": kind,
        }

    def _count(self) -> dict[str, int]:
        return usage(self.prompt, self.generated)


def usage(prompt: int, completion: int) -> dict[str, int]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def _delta(job: Job, choice: int, token: Token) -> dict[str, Any]:
    if token.thought:
        return {"reasoning_content": token.thought}
    if token.call < 0:
        return {"content": token.text}
    function = {"arguments": token.arguments}
    call: dict[str, Any] = {"index": token.call, "function": function}
    if token.name:
        call |= {"id": _call_id(job, choice, token.call), "type": "function"}
        call["function"] = {"name": token.name, **function}
    return {"tool_calls": [call]}


def calls_of(job: Job, choice: int, tokens: list[Token]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for token in tokens:
        if token.name:
            function = {"name": token.name, "arguments": ""}
            found.append(
                {
                    "id": _call_id(job, choice, token.call),
                    "type": "function",
                    "function": function,
                }
            )
        elif token.call >= 0:
            found[token.call]["function"]["arguments"] += token.arguments
    return found


def _call_id(job: Job, choice: int, call: int) -> str:
    return f"call_{job.id[:8]}{choice}{call}"


def sse(event: Mapping[str, Any], name: str = "") -> bytes:
    head = b"event: %b\n" % name.encode() if name else b""
    return b"%bdata: %b\n\n" % (head, orjson.dumps(event))
