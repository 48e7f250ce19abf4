"""How much to think, in the words of each kind of engine."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from workers.engines import vllm
from workers.engines.llamacpp import reasoning as llamacpp
from workers.engines.ollama import request as ollama

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
MESSAGES = "/v1/messages"


def template(**arguments: Any) -> dict[str, Any]:
    return {"chat_template_kwargs": arguments}


ENABLED = {"type": "enabled", "budget_tokens": 2000}
ON, OFF = {"enable_thinking": True}, {"enable_thinking": False}
BRIEF = {"thinking_budget_tokens": 1024}


@pytest.mark.parametrize(
    ("path", "degrees", "asked", "sent"),
    [
        (CHAT, False, {"seed": 1}, {"seed": 1}),
        (CHAT, False, {"reasoning_effort": "minimal"}, template(**OFF)),
        (CHAT, False, {"reasoning_effort": "high"}, template(**ON)),
        (CHAT, False, {"reasoning_effort": "low"}, template(**ON) | BRIEF),
        (CHAT, True, {"reasoning_effort": "low"}, template(**ON, reasoning_effort="low")),
        (CHAT, True, {"reasoning_effort": "xhigh"}, template(**ON, reasoning_effort="high")),
        (CHAT, True, {"reasoning_effort": "none"}, template(**OFF, reasoning_effort="low")),
        (CHAT, False, {"think": False}, template(**OFF)),
        (CHAT, False, {"reasoning_effort": "none"} | template(**ON), template(**ON)),
        (
            CHAT,
            True,
            {"reasoning_effort": "low"} | template(reasoning_effort="high"),
            template(**ON, reasoning_effort="high"),
        ),
        (
            CHAT,
            False,
            {"reasoning_effort": "low", "reasoning_budget_tokens": 7},
            template(**ON) | {"reasoning_budget_tokens": 7},
        ),
        (RESPONSES, False, {"reasoning": {"effort": "none"}}, template(**OFF)),
        (MESSAGES, False, {"thinking": {"type": "disabled"}}, template(**OFF)),
        (MESSAGES, False, {"thinking": ENABLED}, template(**ON) | {"thinking": ENABLED}),
        (
            MESSAGES,
            False,
            {"output_config": {"effort": "low"}},
            template()
            | {
                "output_config": {"effort": "low"},
                "thinking": {"type": "enabled", "budget_tokens": 1024},
            },
        ),
    ],
)
def test_llamacpp(path: str, degrees: bool, asked: dict[str, Any], sent: dict[str, Any]) -> None:
    assert orjson.loads(llamacpp.mapped(orjson.dumps(asked), path, degrees)) == sent


def test_llamacpp_is_not_asked_to_think_before_an_answer_that_was_begun() -> None:
    asked = {"messages": [{"role": "assistant", "content": "x"}], "reasoning_effort": "high"}
    sent = orjson.loads(llamacpp.mapped(orjson.dumps(asked), CHAT, degrees=False))
    assert sent["chat_template_kwargs"] == {}


@pytest.mark.parametrize(
    ("path", "asked", "changes"),
    [
        (CHAT, {}, {}),
        (CHAT, {"reasoning_effort": "minimal"}, template(**OFF) | {"reasoning_effort": "none"}),
        (CHAT, {"reasoning_effort": "xhigh"}, template(**ON) | {"reasoning_effort": "high"}),
        (CHAT, {"think": True}, template(**ON) | {"reasoning_effort": None}),
        (
            CHAT,
            {"reasoning_effort": "low"} | template(reasoning_effort="high"),
            template(**ON, reasoning_effort="high") | {"reasoning_effort": None},
        ),
        (MESSAGES, {"thinking": {"type": "disabled"}}, template(**OFF)),
        (MESSAGES, {"thinking": ENABLED} | template(**OFF), template(**OFF)),
        (MESSAGES, {"output_config": {"effort": "low"}}, {}),
    ],
)
def test_vllm(path: str, asked: dict[str, Any], changes: dict[str, Any]) -> None:
    assert vllm._reasoning(path, asked) == changes


@pytest.mark.parametrize(
    ("path", "thinks", "asked", "changes"),
    [
        (CHAT, True, {}, {}),
        (CHAT, True, {"reasoning_effort": "minimal"}, {"reasoning_effort": "none"}),
        (CHAT, True, {"reasoning_effort": "odd"}, {"reasoning_effort": "max"}),
        (CHAT, True, {"think": True}, {"reasoning_effort": "medium"}),
        (CHAT, True, {"think": False, "reasoning_effort": "low"}, {"reasoning_effort": "none"}),
        (CHAT, False, {"reasoning_effort": "low"}, {"reasoning_effort": None}),
        (
            RESPONSES,
            True,
            {"reasoning": {"effort": "none", "summary": "auto"}},
            {"reasoning": {"effort": "none", "summary": "auto"}},
        ),
        (RESPONSES, False, {"reasoning": {"effort": "low"}}, {"reasoning": {"effort": None}}),
        (MESSAGES, True, {"thinking": ENABLED}, {}),
        (MESSAGES, False, {"thinking": ENABLED}, {"thinking": None, "output_config": None}),
    ],
)
def test_ollama(path: str, thinks: bool, asked: dict[str, Any], changes: dict[str, Any]) -> None:
    found = ollama.changes(path, asked, thinks)
    assert found == (changes | {"think": None} if path == CHAT and changes else changes)
