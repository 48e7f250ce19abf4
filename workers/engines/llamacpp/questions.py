"""What the worker finds out of a llama-server by small requests, as none of its pages tells it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from schemas.api import endpoints, prompts
from workers.engines.http.upstream import Upstream
from workers.engines.openai import continued
from workers.engines.openai.refusal import Refusal

PATIENCE = 10.0
"""Seconds for a question that needs no token of an answer."""
_ONE_TOKEN: Mapping[str, Any] = {
    "messages": [{"role": "user", "content": "hi"}],
    "max_tokens": 1,
}
_UNWILLING: Mapping[str, Any] = {
    "messages": [{"role": "user", "content": "Say hi."}],
    "tools": [{"type": "function", "function": {"name": "noop", "parameters": {"type": "object"}}}],
    "tool_choice": "required",
    "max_tokens": 8,
    "temperature": 0,
}
"""A chat whose answer is text only if the server does not obey `tool_choice`."""


async def generates(http: Upstream, patience: float) -> bool:
    """Whether the server writes text. One for embeddings has the endpoint of chats, too, but it
    answers each chat with a 500."""
    status, _ = await http.post(endpoints.CHAT.path, _ONE_TOKEN, patience)
    return status == 200


async def stays_open(http: Upstream) -> bool:
    """Whether the chat template leaves an assistant's last message open."""
    return continued.stays_open(await _prompt(http, continued.BEGUN))


async def thought_end(http: Upstream) -> str:
    """What the chat template writes between a thought and the text; empty if it drops thoughts, or
    does not leave them open."""
    within, behind = continued.THOUGHT
    return continued.thought_end(await _prompt(http, within), await _prompt(http, behind))


async def _prompt(http: Upstream, chat: Mapping[str, Any]) -> object:
    """What the chat template makes of a chat; None if the server does not tell."""
    status, answer = await http.post(endpoints.TEMPLATE.path, chat, PATIENCE)
    try:
        return orjson.loads(answer)["prompt"] if status == 200 else None
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None


async def obeys(http: Upstream, patience: float) -> bool:
    """Whether the server forces a required call on a model that has no reason to make it."""
    status, answer = await http.post(endpoints.CHAT.path, _UNWILLING, patience)
    try:
        message = orjson.loads(answer)["choices"][0]["message"]
    except (orjson.JSONDecodeError, KeyError, IndexError, TypeError):
        return False
    return status == 200 and not message.get("content")


async def count(http: Upstream, text: str) -> int:
    """The tokens of a text; 0 if the server does not tell."""
    asked = {"content": text, "add_special": False}
    return continued.count_in(*await http.post(endpoints.TOKENIZE.path, asked, PATIENCE), "tokens")


async def need_something_said(http: Upstream, prompt: Any) -> None:
    """Raises Refusal for several choices of a prompt without a token: llama-server never answers
    that, and its slots stay taken (measured). Models that begin each prompt with a token of their
    own are safe."""
    if not any(map(prompts.is_empty, prompt if isinstance(prompt, list) else [prompt])):
        return
    asked = {"content": "", "add_special": True}
    _, answer = await http.post(endpoints.TOKENIZE.path, asked, PATIENCE)
    if b"[]" in answer:
        raise Refusal("Several choices need a prompt that is not empty.", param="prompt")
