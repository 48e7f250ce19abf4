"""What the simulated models say, and how it is counted: a word is a token.

A prompt has as many tokens as its messages have words, and 85 more for each picture. An answer
repeats the words of the last user message, beginning at its first marker (a word that starts with
``#``) if it has one, again and again up to its length: a test finds its own job in the answer.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from typing import Any

from tests.doubles.base import instance

PICTURE = 85
"""Tokens of a picture in a prompt."""


def text_of(content: Any) -> str:
    """The text of a message's content, in parts or not, or of a list of messages."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        found = (content.get(name) for name in ("text", "content", "parts", "refusal", "output"))
        return text_of(next((one for one in found if one), ""))
    if isinstance(content, list | tuple):
        return " ".join(filter(None, map(text_of, content)))
    return ""


def pictures_in(content: Any) -> int:
    if isinstance(content, list):
        return sum(map(pictures_in, content))
    if not isinstance(content, dict):
        return 0
    inner = pictures_in(content.get("content") or content.get("parts"))
    kinds = ("image_url", "input_image", "image")
    return inner + (content.get("type") in kinds or "inlineData" in content)


def count(content: Any) -> int:
    """Tokens of a prompt: text, a message's content, or messages."""
    return len(text_of(content).split()) + PICTURE * pictures_in(content)


def last_user(messages: Iterable[Any]) -> str:
    users = [m for m in messages if isinstance(m, dict) and m.get("role", "user") == "user"]
    return text_of(users[-1]) if users else ""


def answer(prompt: str, tokens: int | None = None) -> list[str]:
    """The pieces of the answer to `prompt`; joined, they are its text."""
    words = prompt.split() or ["silence"]
    start = next((at for at, word in enumerate(words) if word.startswith("#")), 0)
    size = len(words) if tokens is None else tokens
    return spaced(itertools.islice(itertools.cycle(words[start:] + words[:start]), size))


def spaced(words: Iterable[str]) -> list[str]:
    return [word if at == 0 else f" {word}" for at, word in enumerate(words)]


def cut_to(pieces: list[str], limit: int | None, stops: Any) -> tuple[list[str], str, str | None]:
    """What of `pieces` is said; "stop", "length" or "stopped", and the stop that was met."""
    ends = [stops] if isinstance(stops, str) else list(stops or ())
    for at, piece in enumerate(pieces[: limit or len(pieces)]):
        met = next((stop for stop in ends if stop and stop in piece), None)
        if met is not None:
            return pieces[:at], "stopped", met
    if limit is not None and limit < len(pieces):
        return pieces[:limit], "length", None
    return pieces, "stop", None


def grouped(pieces: list[str], per: int) -> list[tuple[int, str]]:
    """(tokens, text) of each event."""
    return [
        (len(pieces[at : at + per]), "".join(pieces[at : at + per]))
        for at in range(0, len(pieces), per)
    ]


def constrained(schema: Any) -> list[str]:
    """The pieces of a JSON text that fits `schema`; any object without one."""
    made = instance(schema) if schema else {"answer": "word"}
    return spaced(json.dumps(made).split(" "))


def called(tools: Iterable[tuple[str, Any]], choice: str, said: str) -> list[tuple[str, list[str]]]:
    """(name, pieces of the arguments) of the calls: those tools that `choice` or a word of the
    prompt names, the first for ``required``. `tools`: (name, schema of its parameters)."""
    if choice == "none":
        return []
    found = list(tools)
    words = said.split()
    named = [one for one in found if one[0] == choice or (choice == "auto" and one[0] in words)]
    chosen = found[:1] if choice == "required" and not named else named
    return [(name, constrained(schema or {"type": "object"})) for name, schema in chosen]


def continued(pieces: list[str], begun: str) -> list[str]:
    """What is left of an answer that `begun` has started; all of it, if it begins otherwise."""
    text, at = "", 0
    while at < len(pieces) and len(text) < len(begun):
        text += pieces[at]
        at += 1
    if not begun:
        return pieces
    return pieces[at:] if text == begun else [f" {pieces[0]}", *pieces[1:]]
