"""Loaded into the pytest of langchain-anthropic: its answers end, though it asks for 64000 tokens
by itself and small models may go on for ever."""

from __future__ import annotations

from typing import Any

from langchain_anthropic import ChatAnthropic

_LONGEST = 32
_usual = ChatAnthropic._get_request_payload


def _bounded(self: Any, *arguments: Any, **options: Any) -> dict[str, Any]:
    payload = _usual(self, *arguments, **options)
    return {**payload, "max_tokens": min(payload["max_tokens"], _LONGEST)}


ChatAnthropic._get_request_payload = _bounded
