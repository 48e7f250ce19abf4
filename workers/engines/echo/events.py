"""The echo engine's events at the responses and messages endpoints, as documented."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from schemas.api.base import Event
from schemas.api.responses import whole
from schemas.jobs import Job
from workers.engines.echo.chat import call_id
from workers.engines.echo.words import Token


class Responses:
    """Writes one message and then the calls. See `workers.engines.echo.engine.Writer`."""

    def __init__(self, job: Job, request: Mapping[str, Any], finish: str, prompt: int) -> None:
        self.generated = 0
        self._asked = whole.asked(request)
        self._job = job
        self._cut = finish == "length"
        self._prompt = prompt
        self._text = ""
        self._calls: list[Event] = []
        self._numbers = 0
        self._place = {"item_id": f"msg_{job.id}", "output_index": 0, "content_index": 0}

    def begin(self) -> list[Event]:
        started = {"response": self._response("in_progress", [])}
        item = {**self._message(), "status": "in_progress", "content": []}
        return [
            self._event("created", **started),
            self._event("in_progress", **started),
            self._event("output_item.added", output_index=0, item=item),
            self._event("content_part.added", part=_output_text(""), **self._place),
        ]

    def add(self, choice: int, token: Token) -> list[Event]:
        self.generated += 1
        if token.call < 0:
            self._text += token.text
            said = {"delta": token.text, "logprobs": []}
            return [self._event("output_text.delta", **said, **self._place)]
        place = {"output_index": token.call + 1}
        if token.name:
            self._calls.append(call := self._call(token))
            item = {**call, "status": "in_progress"}
            return [self._event("output_item.added", item=item, **place)]
        call = self._calls[token.call]
        call["arguments"] += token.arguments
        place |= {"item_id": call["id"]}
        return [self._event("function_call_arguments.delta", delta=token.arguments, **place)]

    def end(self) -> list[Event]:
        out = [self._message(), *self._calls]
        status = "incomplete" if self._cut else "completed"
        part = _output_text(self._text)
        return [
            self._event("output_text.done", text=self._text, logprobs=[], **self._place),
            self._event("content_part.done", part=part, **self._place),
            *(event for i, each in enumerate(out) for event in self._done(i, each)),
            self._event(status, response=self._response(status, out)),
        ]

    def _done(self, index: int, item: Event) -> list[Event]:
        """The events that end an item."""
        place = {"output_index": index, "item_id": item["id"]}
        before = []
        if item["type"] == "function_call":
            before.append(self._event("function_call_arguments.done", **place))
            before[0] |= {name: item[name] for name in ("name", "arguments")}
        return [*before, self._event("output_item.done", output_index=index, item=item)]

    def _event(self, name: str, **fields: Any) -> Event:
        number, self._numbers = self._numbers, self._numbers + 1
        return {"type": f"response.{name}", "sequence_number": number, **fields}

    def _message(self) -> Event:
        about = {"id": f"msg_{self._job.id}", "type": "message", "role": "assistant"}
        return {**about, "status": "completed", "content": [_output_text(self._text)]}

    def _call(self, token: Token) -> Event:
        known = call_id(self._job, 0, token.call)
        about = {"type": "function_call", "id": f"fc_{known}", "call_id": known}
        return {**about, "status": "completed", "name": token.name, "arguments": ""}

    def _response(self, status: str, output: list[Event]) -> Event:
        reason = {"reason": "max_output_tokens"} if status == "incomplete" else None
        response: Event = {
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
                "total_tokens": self._prompt + self.generated,
            },
        }
        whole.fill(response, self._asked)
        return response


class Messages:
    """Writes Anthropic's blocks of text and calls. See `workers.engines.echo.engine.Writer`."""

    def __init__(self, job: Job, finish: str, prompt: int) -> None:
        self.generated = 0
        self._job = job
        self._reason = {"length": "max_tokens", "tool_calls": "tool_use"}.get(finish, "end_turn")
        self._prompt = prompt
        self._block = 0

    def begin(self) -> list[Event]:
        message: Event = {
            "id": f"msg_{self._job.id}",
            "type": "message",
            "role": "assistant",
            "content": [],
            "model": self._job.asked,
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": self._prompt, "output_tokens": 0},
        }
        return [{"type": "message_start", "message": message}, _started(0, type="text", text="")]

    def add(self, choice: int, token: Token) -> list[Event]:
        self.generated += 1
        if token.call < 0:
            return [_delta(0, type="text_delta", text=token.text)]
        if not token.name:
            return [_delta(self._block, type="input_json_delta", partial_json=token.arguments)]
        ended, self._block = _stopped(self._block), token.call + 1
        known = call_id(self._job, 0, token.call)
        return [ended, _started(self._block, type="tool_use", id=known, name=token.name, input={})]

    def end(self) -> list[Event]:
        ended = {"stop_reason": self._reason, "stop_sequence": None}
        usage = {"output_tokens": self.generated}
        return [
            _stopped(self._block),
            {"type": "message_delta", "delta": ended, "usage": usage},
            {"type": "message_stop"},
        ]


def _output_text(text: str) -> Event:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _started(index: int, **block: Any) -> Event:
    return {"type": "content_block_start", "index": index, "content_block": block}


def _delta(index: int, **delta: Any) -> Event:
    return {"type": "content_block_delta", "index": index, "delta": delta}


def _stopped(index: int) -> Event:
    return {"type": "content_block_stop", "index": index}
