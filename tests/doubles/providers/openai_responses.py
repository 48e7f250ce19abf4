"""OpenAI's responses: one message or function calls, whole or as its events."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.doubles.base import sse
from tests.doubles.providers import words
from tests.doubles.providers.base import EXCHANGE, FAULT, ident
from tests.doubles.providers.faults import Refused
from tests.doubles.providers.flow import Flow, Piece, send

if TYPE_CHECKING:
    from tests.doubles.providers.openai import OpenAI


def routes(sim: OpenAI) -> list[web.RouteDef]:
    async def responses(request: web.Request) -> web.StreamResponse:
        exchange = request[EXCHANGE]
        asked = exchange.body
        if not isinstance(asked, dict) or not asked.get("input"):
            told = "Missing required parameter: 'input'."
            raise Refused(400, told, code="missing_required_parameter", param="input")
        given = asked["input"]
        prompt = words.count(given) + words.count(asked.get("instructions") or "")
        sim.admit_tokens(exchange.model, prompt)
        made = _Made(sim, asked, prompt, request[FAULT].metered)
        return await send(sim, request, made.flow(exchange.stream), prompt)

    return [web.post(f"{sim.prefix}/responses", responses)]


class _Made:
    """One response: a text, or calls (item, pieces of its arguments)."""

    def __init__(self, sim: OpenAI, asked: dict[str, Any], prompt: int, metered: bool) -> None:
        self._sim, self._asked, self._prompt, self._metered = sim, asked, prompt, metered
        self._id, self._number = ident("resp_", 25), -1
        given = asked["input"]
        said = given if isinstance(given, str) else words.last_user(given)
        tools = [(t["name"], t.get("parameters")) for t in asked.get("tools") or () if "name" in t]
        wanted = asked.get("tool_choice") or "auto"
        choice = wanted["name"] if isinstance(wanted, dict) else wanted
        self._calls = [(_item(name), pieces) for name, pieces in words.called(tools, choice, said)]
        pieces = words.answer(said, sim.pace.tokens)
        form = (asked.get("text") or {}).get("format") or {}
        if form.get("type") in ("json_schema", "json_object"):
            pieces = words.constrained(form.get("schema"))
        self._pieces, self._reason, _ = words.cut_to(pieces, asked.get("max_output_tokens"), ())
        self._message = ident("msg_", 25)

    def flow(self, stream: bool) -> Flow:
        if not stream:
            spoken = [p for _, pieces in self._calls for p in pieces] or self._pieces
            return Flow([Piece(1, piece) for piece in spoken], whole=lambda: self._document(True))
        start = {"response": self._document(False)}
        head = self._event("created", **start) + self._event("in_progress", **start)
        pieces = self._called() if self._calls else self._told()
        kind = "incomplete" if self._reason == "length" and not self._calls else "completed"
        tail = self._event(kind, response=self._document(True))
        return Flow(pieces, head, tail, error=self._error)

    def _event(self, kind: str, **more: Any) -> bytes:
        self._number += 1
        name = f"response.{kind}"
        return sse({"type": name, "sequence_number": self._number, **more}, name)

    def _error(self, refused: Refused) -> bytes:
        told = {"code": refused.code or "server_error", "param": None}
        message = "The server had an error while processing your request."
        self._number += 1
        event = {"type": "error", "sequence_number": self._number, **told, "message": message}
        return sse(event, "error")

    def _told(self) -> list[Piece]:
        place = {"item_id": self._message, "output_index": 0, "content_index": 0}
        empty = {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}
        item = self._message_item("in_progress", [])
        opening = self._event("output_item.added", output_index=0, item=item)
        opening += self._event("content_part.added", **place, part=empty)
        found = []
        for tokens, text in words.grouped(self._pieces, self._sim.pace.per_event):
            raw = self._event("output_text.delta", **place, delta=text, logprobs=[])
            found.append(Piece(tokens, text, raw))
        text = "".join(self._pieces)
        closing = self._event("output_text.done", **place, text=text, logprobs=[])
        closing += self._event("content_part.done", **place, part={**empty, "text": text})
        item = self._message_item("completed", [{**empty, "text": text}])
        closing += self._event("output_item.done", output_index=0, item=item)
        found[0].raw = opening + found[0].raw
        found[-1].raw += closing
        return found

    def _called(self) -> list[Piece]:
        found = []
        for at, (item, pieces) in enumerate(self._calls):
            place = {"item_id": item["id"], "output_index": at}
            opened = {**item, "status": "in_progress", "arguments": ""}
            raw = self._event("output_item.added", output_index=at, item=opened)
            for piece in pieces:
                raw += self._event("function_call_arguments.delta", **place, delta=piece)
                found.append(Piece(1, piece, raw))
                raw = b""
            done = {**item, "arguments": "".join(pieces)}
            kind = "function_call_arguments.done"
            found[-1].raw += self._event(kind, **place, arguments=done["arguments"])
            found[-1].raw += self._event("output_item.done", output_index=at, item=done)
        return found

    def _message_item(self, status: str, content: list[Any]) -> dict[str, Any]:
        who = {"id": self._message, "type": "message", "status": status}
        return {**who, "content": content, "role": "assistant"}

    def _output(self) -> list[dict[str, Any]]:
        if self._calls:
            return [{**item, "arguments": "".join(pieces)} for item, pieces in self._calls]
        text = {"type": "output_text", "annotations": [], "logprobs": []}
        return [self._message_item("completed", [{**text, "text": "".join(self._pieces)}])]

    def _usage(self) -> dict[str, Any]:
        said = sum(len(pieces) for _, pieces in self._calls) or len(self._pieces)
        output = said + self._sim.pace.reasoning
        cached = min(self._sim.pace.cached, self._prompt)
        return {
            "input_tokens": self._prompt,
            "input_tokens_details": {"cached_tokens": cached},
            "output_tokens": output,
            "output_tokens_details": {"reasoning_tokens": self._sim.pace.reasoning},
            "total_tokens": self._prompt + output,
        }

    def _document(self, done: bool) -> dict[str, Any]:
        asked = self._asked
        cut = done and self._reason == "length" and not self._calls
        status = "incomplete" if cut else "completed" if done else "in_progress"
        return {
            "id": self._id,
            "object": "response",
            "created_at": int(time.time()),
            "status": status,
            "background": False,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "instructions": asked.get("instructions"),
            "max_output_tokens": asked.get("max_output_tokens"),
            "model": self._sim.models[asked["model"]],
            "output": self._output() if done else [],
            "parallel_tool_calls": True,
            "previous_response_id": asked.get("previous_response_id"),
            "reasoning": {"effort": None, "summary": None},
            "service_tier": "default" if done else "auto",
            "store": asked.get("store", True),
            "temperature": asked.get("temperature", 1.0),
            "text": asked.get("text") or {"format": {"type": "text"}},
            "tool_choice": asked.get("tool_choice") or "auto",
            "tools": asked.get("tools") or [],
            "top_p": asked.get("top_p", 1.0),
            "truncation": "disabled",
            "usage": self._usage() if done and self._metered else None,
            "user": None,
            "metadata": asked.get("metadata") or {},
        }


def _item(name: str) -> dict[str, Any]:
    who = {"id": ident("fc_", 25), "type": "function_call", "status": "completed"}
    return {**who, "arguments": "", "call_id": ident("call_", 12), "name": name}
