"""Ollama's answers on the completions, responses and messages endpoints."""

from __future__ import annotations

from typing import Any

from tests.doubles.base import DONE, sse

CREATED = 1787338102


class Writer:
    """One answer: native chunks in, OpenAI's out. An error line is read as an empty chunk."""

    key = "message"

    def document(self, found: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    def chunk(self, found: dict[str, Any]) -> bytes:
        raise NotImplementedError


class Text(Writer):
    key = "response"

    def __init__(self, head: dict[str, str], usage: bool) -> None:
        self._head, self._with_usage = head, usage

    def document(self, found: dict[str, Any]) -> dict[str, Any]:
        choice = {"text": found["response"], "index": 0, "finish_reason": found["done_reason"]}
        top = {"id": self._head["id"], "object": "text_completion", "created": CREATED}
        more = {"model": found["model"], "system_fingerprint": "fp_ollama"}
        return {**top, **more, "choices": [choice], "usage": usage_of(found)}

    def chunk(self, found: dict[str, Any]) -> bytes:
        text = found.get("response", "")
        choice = {"text": text, "index": 0, "finish_reason": found.get("done_reason")}
        zeros = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        out = sse(self._top([choice], found, zeros if self._with_usage else None))
        if not found.get("done"):
            return out
        if self._with_usage:
            out += sse(self._top([], found, usage_of(found)))
        return out + DONE

    def _top(
        self, choices: list[Any], found: dict[str, Any], usage: dict[str, int] | None
    ) -> dict[str, Any]:
        top = {"id": self._head["id"], "object": "text_completion", "created": CREATED}
        more = {"model": found.get("model", ""), "system_fingerprint": "fp_ollama"}
        told = {} if usage is None else {"usage": usage}
        return {**top, "choices": choices, **more, **told}


class Responses(Writer):
    def __init__(self, asked: dict[str, Any]) -> None:
        self._asked = asked
        self._text = ""
        self._number = -1

    def document(self, found: dict[str, Any]) -> dict[str, Any]:
        return self._response("completed", found["message"]["content"], found)

    def chunk(self, found: dict[str, Any]) -> bytes:
        out = b""
        if self._number < 0:
            empty = self._response("in_progress", "", {})
            out += self._event("response.created", {"response": empty})
            out += self._event("response.in_progress", {"response": empty})
        text = (found.get("message") or {}).get("content", "")
        if text:
            self._text += text
            where = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
            out += self._event("response.output_text.delta", {**where, "delta": text})
        if found.get("done"):
            response = self._response("completed", self._text, found)
            out += self._event("response.completed", {"response": response})
        return out

    def _event(self, name: str, body: dict[str, Any]) -> bytes:
        self._number += 1
        return sse({"type": name, "sequence_number": self._number, **body}, name)

    def _response(self, status: str, text: str, found: dict[str, Any]) -> dict[str, Any]:
        content = [{"type": "output_text", "text": text, "annotations": []}]
        item = {"id": "msg_1", "type": "message", "role": "assistant", "content": content}
        usage = None
        if "eval_count" in found:
            told = usage_of(found)
            usage = {
                "input_tokens": told["prompt_tokens"],
                "output_tokens": told["completion_tokens"],
                "total_tokens": told["total_tokens"],
            }
        return {
            "id": "resp_123456",
            "object": "response",
            "created_at": CREATED,
            "status": status,
            "model": self._asked.get("model"),
            "output": [item] if text else [],
            "usage": usage,
        }


class Messages(Writer):
    def __init__(self, asked: dict[str, Any]) -> None:
        self._asked = asked
        self._begun = False

    def document(self, found: dict[str, Any]) -> dict[str, Any]:
        usage = {"input_tokens": found["prompt_eval_count"], "output_tokens": found["eval_count"]}
        text = {"type": "text", "text": found["message"]["content"]}
        return {**self._head(), "content": [text], "stop_reason": _reason(found), "usage": usage}

    def chunk(self, found: dict[str, Any]) -> bytes:
        out = b""
        if not self._begun:
            self._begun = True
            usage = {"input_tokens": 1, "output_tokens": 0}
            message = {**self._head(), "content": [], "stop_reason": None, "usage": usage}
            block = {"type": "text", "text": ""}
            out += _named({"type": "message_start", "message": message})
            start = {"type": "content_block_start", "index": 0, "content_block": block}
            out += _named(start)
        if text := (found.get("message") or {}).get("content", ""):
            delta = {"type": "text_delta", "text": text}
            out += _named({"type": "content_block_delta", "index": 0, "delta": delta})
        if found.get("done"):
            out += _named({"type": "content_block_stop", "index": 0})
            told = {
                "input_tokens": found["prompt_eval_count"],
                "output_tokens": found["eval_count"],
            }
            delta = {"stop_reason": _reason(found)}
            out += _named({"type": "message_delta", "delta": delta, "usage": told})
            out += _named({"type": "message_stop"})
        return out

    def _head(self) -> dict[str, Any]:
        named = {"id": "msg_123456", "type": "message", "role": "assistant"}
        return {**named, "model": self._asked.get("model")}


def usage_of(found: dict[str, Any]) -> dict[str, int]:
    prompt, completion = found["prompt_eval_count"], found["eval_count"]
    total = prompt + completion
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": total,
    }


def _reason(found: dict[str, Any]) -> str:
    return "max_tokens" if found["done_reason"] == "length" else "end_turn"


def _named(event: dict[str, Any]) -> bytes:
    return sse(event, event["type"])
