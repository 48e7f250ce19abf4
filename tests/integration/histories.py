"""Earlier messages as clients and small models leave them, and in the one form that Ollama and vLLM
take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ODD: tuple[Any, ...] = ('{"place": "Pa', '["Paris"]', "Paris", "")
PLAIN = (
    '{"arguments":"{\\"place\\": \\"Pa"}',
    '{"arguments":["Paris"]}',
    '{"arguments":"Paris"}',
    "{}",
)
INPUTS: tuple[Any, ...] = (
    {"arguments": '{"place": "Pa'},
    {"arguments": ["Paris"]},
    {"arguments": "Paris"},
    {},
)
REFUSED = [{"type": "text", "text": "I can say:"}, {"type": "refusal", "refusal": "no."}]
ASKED, LAST = {"role": "user", "content": "Why?"}, {"role": "user", "content": "a b c"}


@dataclass(frozen=True, slots=True)
class Case:
    """`odd`: rows of a history that the client sends; `plain`: as they arrive."""

    path: str
    field: str
    odd: list[Any]
    plain: list[Any]
    more: Mapping[str, Any]

    def body(self, model: str, **more: Any) -> dict[str, Any]:
        return {"model": model, self.field: [ASKED, *self.odd, LAST], **self.more, **more}

    def arrives(self) -> list[Any]:
        return [ASKED, *self.plain, LAST]


def _call(number: int, arguments: str) -> dict[str, Any]:
    called = {"name": "weather", "arguments": arguments}
    return {"id": f"call_{number}", "type": "function", "function": called}


def _of_chat(arguments: tuple[str, ...], parts: list[Any]) -> list[Any]:
    calls = [_call(number, each) for number, each in enumerate(arguments)]
    results = [
        {"role": "tool", "tool_call_id": call["id"], "content": "none such"} for call in calls
    ]
    said = {"role": "assistant", "content": parts}
    return [said, ASKED, {"role": "assistant", "content": None, "tool_calls": calls}, *results]


def _of_response(arguments: tuple[str, ...], parts: list[Any]) -> list[Any]:
    calls = [
        {"type": "function_call", "call_id": f"call_{i}", "name": "weather", "arguments": each}
        for i, each in enumerate(arguments)
    ]
    results = [
        {"type": "function_call_output", "call_id": call["call_id"], "output": "none such"}
        for call in calls
    ]
    return [{"role": "assistant", "content": parts}, ASKED, *calls, *results]


def _of_messages(inputs: tuple[Any, ...]) -> list[Any]:
    calls = [
        {"type": "tool_use", "id": f"toolu_{i}", "name": "weather", "input": each}
        for i, each in enumerate(inputs)
    ]
    results = [
        {"type": "tool_result", "tool_use_id": call["id"], "content": "none such"} for call in calls
    ]
    return [{"role": "assistant", "content": calls}, {"role": "user", "content": results}]


def _texts(kind: str) -> list[Any]:
    return [{"type": kind, "text": "I can say:"}, {"type": kind, "text": "no."}]


CASES = {
    "chat": Case(
        "/v1/chat/completions",
        "messages",
        _of_chat(ODD, REFUSED),
        _of_chat(PLAIN, _texts("text")),
        {"max_tokens": 3},
    ),
    "response": Case(
        "/v1/responses",
        "input",
        _of_response(ODD, REFUSED),
        _of_response(PLAIN, _texts("output_text")),
        {"max_output_tokens": 3},
    ),
    "messages": Case(
        "/v1/messages", "messages", _of_messages(ODD), _of_messages(INPUTS), {"max_tokens": 3}
    ),
}
