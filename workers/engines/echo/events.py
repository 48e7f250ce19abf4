"""The echo engine at the responses and messages endpoints, as these APIs are documented."""

from __future__ import annotations

import time
from typing import Any

import orjson

from schemas.jobs import Job
from workers.engines.echo.chat import calls_of, sse
from workers.engines.echo.words import Token


class Responses:
    """One message, and the calls after it."""

    def __init__(self, job: Job, finish: str, prompt: int) -> None:
        self.generated = 0
        self._job = job
        self._cut = finish == "length"
        self._prompt = prompt
        self._tokens: list[Token] = []
        self._numbers = 0

    def head(self) -> bytes:
        started = {"response": self._response("in_progress", [])}
        item = {**self._item(""), "status": "in_progress", "content": []}
        return (
            self._event("response.created", **started)
            + self._event("response.in_progress", **started)
            + self._event("response.output_item.added", output_index=0, item=item)
            + self._event("response.content_part.added", part=_output_text(""), **self._place())
        )

    def add(self, choice: int, token: Token) -> bytes:
        self._tokens.append(token)
        self.generated += 1
        if token.call < 0:
            return self._event("response.output_text.delta", delta=token.text, **self._place())
        place = {"output_index": token.call + 1}
        if token.name:
            item = {**self._call(token.call), "arguments": "", "status": "in_progress"}
            return self._event("response.output_item.added", item=item, **place)
        place |= {"item_id": self._call(token.call)["id"]}
        name = "response.function_call_arguments.delta"
        return self._event(name, delta=token.arguments, **place)

    def tail(self) -> bytes:
        text, out = self._text(), self._output()
        events = [
            self._event("response.output_text.done", text=text, **self._place()),
            self._event("response.content_part.done", part=_output_text(text), **self._place()),
        ]
        for index, item in enumerate(out):
            events.append(self._event("response.output_item.done", output_index=index, item=item))
        status = "incomplete" if self._cut else "completed"
        events.append(self._event(f"response.{status}", response=self._response(status, out)))
        return b"".join(events)

    def document(self) -> bytes:
        status = "incomplete" if self._cut else "completed"
        return orjson.dumps(self._response(status, self._output()))

    def _event(self, name: str, **fields: Any) -> bytes:
        number, self._numbers = self._numbers, self._numbers + 1
        return sse({"type": name, "sequence_number": number, **fields}, name)

    def _place(self) -> dict[str, Any]:
        return {"item_id": f"msg_{self._job.id}", "output_index": 0, "content_index": 0}

    def _text(self) -> str:
        return "".join(token.text for token in self._tokens)

    def _item(self, text: str) -> dict[str, Any]:
        content = [_output_text(text)]
        about = {"id": f"msg_{self._job.id}", "type": "message", "role": "assistant"}
        return {**about, "status": "completed", "content": content}

    def _call(self, number: int) -> dict[str, Any]:
        call = calls_of(self._job, 0, self._tokens)[number]
        return {
            "type": "function_call",
            "id": f"fc_{call['id']}",
            "call_id": call["id"],
            "status": "completed",
            **call["function"],
        }

    def _output(self) -> list[dict[str, Any]]:
        calls = {token.call for token in self._tokens if token.call >= 0}
        return [self._item(self._text()), *(self._call(number) for number in sorted(calls))]

    def _response(self, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
        reason = {"reason": "max_output_tokens"} if status == "incomplete" else None
        total = self._prompt + self.generated
        return {
            "id": f"resp_{self._job.id}",
            "object": "response",
            "created_at": int(time.time()),
            "status": status,
            "model": self._job.asked,
            "output": output,
            "incomplete_details": reason,
            "usage": {
                "input_tokens": self._prompt,
                "output_tokens": self.generated,
                "total_tokens": total,
            },
        }


class Messages:
    """Anthropic's: blocks of text and of calls."""

    def __init__(self, job: Job, finish: str, prompt: int) -> None:
        self.generated = 0
        self._job = job
        self._reason = {"length": "max_tokens", "tool_calls": "tool_use"}.get(finish, "end_turn")
        self._prompt = prompt
        self._tokens: list[Token] = []
        self._block = 0

    def head(self) -> bytes:
        begun = {**self._message([]), "stop_reason": None}
        block = {"type": "text", "text": ""}
        return _typed("message_start", message=begun) + _typed(
            "content_block_start", index=0, content_block=block
        )

    def add(self, choice: int, token: Token) -> bytes:
        self._tokens.append(token)
        self.generated += 1
        if token.call < 0:
            delta = {"type": "text_delta", "text": token.text}
            return _typed("content_block_delta", index=0, delta=delta)
        if token.name:
            ended, self._block = self._block, token.call + 1
            block = {**self._use(token.call), "input": {}}
            return _typed("content_block_stop", index=ended) + _typed(
                "content_block_start", index=self._block, content_block=block
            )
        delta = {"type": "input_json_delta", "partial_json": token.arguments}
        return _typed("content_block_delta", index=self._block, delta=delta)

    def tail(self) -> bytes:
        ended = {"stop_reason": self._reason, "stop_sequence": None}
        return (
            _typed("content_block_stop", index=self._block)
            + _typed("message_delta", delta=ended, usage={"output_tokens": self.generated})
            + _typed("message_stop")
        )

    def document(self) -> bytes:
        text = "".join(token.text for token in self._tokens)
        calls = sorted({token.call for token in self._tokens if token.call >= 0})
        uses = [
            {**self._use(call), "input": orjson.loads(_arguments(self._job, self._tokens, call))}
            for call in calls
        ]
        return orjson.dumps(self._message([{"type": "text", "text": text}, *uses]))

    def _use(self, number: int) -> dict[str, Any]:
        call = calls_of(self._job, 0, self._tokens)[number]
        return {"type": "tool_use", "id": call["id"], "name": call["function"]["name"]}

    def _message(self, content: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": f"msg_{self._job.id}",
            "type": "message",
            "role": "assistant",
            "content": content,
            "model": self._job.asked,
            "stop_reason": self._reason,
            "stop_sequence": None,
            "usage": {"input_tokens": self._prompt, "output_tokens": self.generated},
        }


def _arguments(job: Job, tokens: list[Token], number: int) -> str:
    return str(calls_of(job, 0, tokens)[number]["function"]["arguments"])


def _output_text(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _typed(name: str, **fields: Any) -> bytes:
    return sse({"type": name, **fields}, name)
