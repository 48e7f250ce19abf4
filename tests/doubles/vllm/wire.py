"""vLLM's answers: the recorded ones (`data/vllm.json`), with other text in them."""

from __future__ import annotations

import copy
import itertools
import json
import secrets
from pathlib import Path
from typing import Any

import orjson

from tests.doubles.base import instance, sse, words_of

RECORDED: dict[str, Any] = json.loads((Path(__file__).with_name("recorded.json")).read_text())


def _document(case: str) -> dict[str, Any]:
    return dict(json.loads(RECORDED[case]["body"]))


def _events(case: str) -> list[dict[str, Any]]:
    lines = RECORDED[case]["body"].splitlines()
    return [json.loads(line[5:]) for line in lines if line.startswith("data: {")]


_CHAT, _TEXT = _document("chat"), _document("completions")
_RESPONSE, _MESSAGE = _document("responses"), _document("messages")
_CHAT_EVENTS, _TEXT_EVENTS = _events("chat_stream_usage"), _events("completions_stream")
_COUNTING_EVENTS = _events("chat_stream_continuous_usage")
_LAST_UNCOUNTED = _events("chat_stream")[-1]
_RESPONSE_EVENTS, _MESSAGE_EVENTS = _events("responses_stream"), _events("messages_stream")
_LOGPROB = _document("chat_logprobs")["choices"][0]["logprobs"]["content"][0]
MODELS = _document("models")


class Answer:
    """`prompt` tokens in, `choices` of words out; `reason` for the end of each."""

    def __init__(
        self,
        ident: str,
        prompt: int,
        choices: list[list[str]],
        reason: str,
        top: int | None,
        options: dict[str, Any],
    ) -> None:
        self.ident = ident
        self.prompt = prompt
        self.choices = choices
        self.reason = reason
        self._top = top
        self.counted = bool(options.get("include_usage"))
        self._counting = self.counted and bool(options.get("continuous_usage_stats"))

    @property
    def usage(self) -> dict[str, Any]:
        completion = sum(map(len, self.choices))
        total = self.prompt + completion
        return {
            "prompt_tokens": self.prompt,
            "total_tokens": total,
            "completion_tokens": completion,
        }

    # Documents

    def chat(self, calls: list[dict[str, Any]], thought: str = "") -> dict[str, Any]:
        found = self._filled(_CHAT)
        for index, choice in enumerate(found["choices"]):
            choice["message"]["reasoning"] = thought or None
            choice["message"]["content"] = None if calls else "".join(self.choices[index])
            choice["logprobs"] = self._logprobs(self.choices[index])
            choice["finish_reason"] = "tool_calls" if calls else self.reason
            if calls:
                choice["message"]["tool_calls"] = calls
        return found

    def text(self) -> dict[str, Any]:
        found = self._filled(_TEXT)
        for index, choice in enumerate(found["choices"]):
            choice["text"] = "".join(self.choices[index])
            choice["finish_reason"] = self.reason
        return found

    def response(self) -> dict[str, Any]:
        found = copy.deepcopy(_RESPONSE)
        cut = self.reason == "length"
        found["incomplete_details"] = {"reason": "max_output_tokens"} if cut else None
        found["status"] = "incomplete" if cut else "completed"
        found["output"][0]["content"][0]["text"] = "".join(self.choices[0])
        self._spend(found["usage"])
        return found

    def message(self) -> dict[str, Any]:
        found = copy.deepcopy(_MESSAGE)
        found["content"][0]["text"] = "".join(self.choices[0])
        found["stop_reason"] = "max_tokens" if self.reason == "length" else "end_turn"
        self._spend(found["usage"])
        return found

    # Streams: what goes before, with, and behind the words

    def chat_head(self, thought: str = "") -> bytes:
        out = b""
        for index in range(len(self.choices)):
            chunk = self._counted(self._named(self._like(0)), 0)
            chunk["choices"][0]["index"] = index
            out += sse(chunk)
            if thought:
                chunk["choices"][0]["delta"] = {"reasoning": thought}
                out += sse(chunk)
        return out

    def chat_word(self, index: int, at: int) -> bytes:
        word, last = self.choices[index][at], at == len(self.choices[index]) - 1
        chunk = self._counted(self._named(self._like(-2 if last else 1)), at + 1)
        choice = chunk["choices"][0]
        choice["index"], choice["delta"]["content"] = index, word
        choice["logprobs"] = self._logprobs([word])
        if last:
            choice["finish_reason"] = self.reason
        return sse(chunk)

    def chat_calls(self, calls: list[dict[str, Any]]) -> bytes:
        chunk = self._named(self._like(-2))
        indexed = [{"index": index, **call} for index, call in enumerate(calls)]
        chunk["choices"][0]["delta"] = {"tool_calls": indexed}
        chunk["choices"][0]["finish_reason"] = "tool_calls"
        return sse(chunk)

    def text_word(self, index: int, at: int) -> bytes:
        word, last = self.choices[index][at], at == len(self.choices[index]) - 1
        chunk = self._named(_TEXT_EVENTS[0])
        choice = chunk["choices"][0]
        choice["index"], choice["text"] = index, word
        choice["finish_reason"] = self.reason if last else None
        return sse(chunk)

    def closing(self, chat: bool) -> bytes:
        """The chunk without choices that `include_usage` asks for."""
        chunk = self._named((_CHAT_EVENTS if chat else _TEXT_EVENTS)[-1])
        return sse({**chunk, "usage": self.usage})

    def response_events(self) -> tuple[list[bytes], list[bytes], list[bytes]]:
        words = self.choices[0]
        deltas = [e for e in _RESPONSE_EVENTS if e["type"] == "response.output_text.delta"]
        at = _RESPONSE_EVENTS.index(deltas[0])
        head = copy.deepcopy(_RESPONSE_EVENTS[:at])
        middle = [{**deltas[0], "delta": word} for word in words]
        tail = copy.deepcopy(_RESPONSE_EVENTS[at + len(deltas) :])
        tail[-1]["response"] = self.response()
        for event in tail[:-1]:
            for place in (event, event.get("part"), (event.get("item") or {}).get("content", [])):
                _retext(place, "".join(words))
        for number, event in enumerate([*head, *middle, *tail]):
            event["sequence_number"] = number
        named = [[sse(e, e["type"]) for e in part] for part in (head, middle, tail)]
        return named[0], named[1], named[2]

    def message_events(self) -> tuple[list[bytes], list[bytes], list[bytes]]:
        head, tail = copy.deepcopy(_MESSAGE_EVENTS[:2]), copy.deepcopy(_MESSAGE_EVENTS[-3:])
        head[0]["message"]["usage"]["input_tokens"] = self.prompt
        tail[1]["delta"]["stop_reason"] = self.message()["stop_reason"]
        self._spend(tail[1]["usage"])
        like = _MESSAGE_EVENTS[2]
        middle = [{**like, "delta": {**like["delta"], "text": word}} for word in self.choices[0]]
        named = [[sse(e, e["type"]) for e in part] for part in (head, middle, tail)]
        return named[0], named[1], named[2]

    def _like(self, place: int) -> dict[str, Any]:
        """The recorded chunk at `place`; without usage the last one has the fingerprint."""
        if place == -2 and not self.counted:
            return _LAST_UNCOUNTED
        return (_COUNTING_EVENTS if self._counting else _CHAT_EVENTS)[place]

    def _counted(self, chunk: dict[str, Any], words: int) -> dict[str, Any]:
        if self._counting:
            told = {"completion_tokens": words, "total_tokens": self.prompt + words}
            chunk["usage"] = {**chunk["usage"], "prompt_tokens": self.prompt, **told}
        return chunk

    def _filled(self, like: dict[str, Any]) -> dict[str, Any]:
        found = self._named(like)
        found["choices"] = [
            {**copy.deepcopy(like["choices"][0]), "index": index}
            for index in range(len(self.choices))
        ]
        found["usage"] = {**like["usage"], **self.usage}
        return found

    def _named(self, like: dict[str, Any]) -> dict[str, Any]:
        return {**copy.deepcopy(like), "id": self.ident}

    def _spend(self, usage: dict[str, Any]) -> None:
        usage["input_tokens"], usage["output_tokens"] = self.prompt, len(self.choices[0])
        if "total_tokens" in usage:
            usage["total_tokens"] = self.prompt + len(self.choices[0])

    def _logprobs(self, words: list[str]) -> dict[str, Any] | None:
        if self._top is None:
            return None
        told = []
        for word in words:
            one = {"token": word, "logprob": -0.5, "bytes": list(word.encode())}
            told.append({**_LOGPROB, **one, "top_logprobs": [one] * self._top})
        return {"content": told}


def _retext(place: Any, text: str) -> None:
    for found in place if isinstance(place, list) else [place]:
        if isinstance(found, dict) and isinstance(found.get("text"), str):
            found["text"] = text


def compose(
    asked: dict[str, Any], ident: str, words: list[str], prompt: int, begun: int = 0
) -> Answer:
    """`words` again and again up to the request's limit (without one, once), or what its schema
    holds it to. `begun`: words of it that are there already."""
    form = asked.get("response_format") or {}
    if form.get("type") in ("json_object", "json_schema"):
        schema = (form.get("json_schema") or {}).get("schema")
        words = [orjson.dumps(instance(schema) if schema else {"answer": 1}).decode()]
    words = words or ["silence"]
    wanted = ("max_completion_tokens", "max_tokens", "max_output_tokens")
    limit = next((asked[name] for name in wanted if asked.get(name)), None)
    size = min(len(words) - begun if limit is None else limit, max(32, 4 * len(words)))
    told = list(itertools.islice(itertools.cycle(words), begun, begun + max(0, size)))
    stops = asked.get("stop") or ()
    told = list(itertools.takewhile(lambda word: word not in stops, told))
    pieces = [f" {word}" if i else word for i, word in enumerate(told, begun)] or [""]
    reason = "length" if limit is not None and len(pieces) >= limit else "stop"
    prompts = asked.get("prompt")
    many = len(prompts) if isinstance(prompts, list) and isinstance(prompts[0], str) else 1
    top = asked.get("top_logprobs", 0) if asked.get("logprobs") is True else None
    choices = [pieces] * int(asked.get("n") or 1) * many
    return Answer(ident, prompt, choices, reason, top, asked.get("stream_options") or {})


def calls_of(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """A call of each tool that the last message or `tool_choice` names, or of all if required."""
    choice = asked.get("tool_choice") or "auto"
    said = words_of(asked["messages"][-1].get("content"))
    named = choice["function"]["name"] if isinstance(choice, dict) else ""
    found = []
    for tool in asked.get("tools") or ():
        function = tool["function"]
        if function["name"] in (*said, named) or choice == "required":
            made = instance(function.get("parameters") or {"type": "object"})
            call = {"name": function["name"], "arguments": orjson.dumps(made).decode()}
            ident = f"chatcmpl-tool-{secrets.token_hex(8)}"
            found.append({"id": ident, "type": "function", "function": call})
    return [] if choice == "none" else found
