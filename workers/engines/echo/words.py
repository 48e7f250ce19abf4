"""What the echo engine says: turns a request into tokens, vectors or ranks."""

from __future__ import annotations

import math
import struct
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import cycle, islice
from typing import Any

import orjson

from schemas.api import endpoints
from schemas.api.base import Api

SILENCE = ["(silence)"]
DIMENSIONS = 8
CATEGORIES = (
    *("harassment", "harassment/threatening", "hate", "hate/threatening", "illicit"),
    *("illicit/violent", "self-harm", "self-harm/instructions", "self-harm/intent", "sexual"),
    *("sexual/minors", "violence", "violence/graphic"),
)
"""The categories of OpenAI's moderations."""
_COUNTED = "response.input_tokens"


@dataclass(frozen=True, slots=True)
class Token:
    """Text, a thought, or a piece of call number `call`; a call's first piece has the `name`."""

    text: str = ""
    thought: str = ""
    call: int = -1
    name: str = ""
    arguments: str = ""


# From a request to tokens.


def words(prompt: object) -> list[str]:
    """The words of a text, or of the last message of a user."""
    if isinstance(prompt, list) and not all(isinstance(item, dict) for item in prompt):
        prompt = " ".join(str(item) for item in prompt)
    for message in reversed(prompt if isinstance(prompt, list) else [{"content": prompt}]):
        text = _text(message.get("content"))
        if message.get("role", "user") == "user" and text.split():
            return text.split()
    return SILENCE


def _text(content: object) -> str:
    if isinstance(content, list):
        return " ".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def limit(request: Mapping[str, Any], api: Api, default: int) -> int:
    for name in api.limits or ("max_tokens",):
        value = request.get(name)
        if value is not None and value >= 0:
            return int(value)
    return default


def pieces(found: list[str], count: int) -> list[str]:
    """`count` words (0: all of them, once), each with the space before it."""
    said = islice(cycle(found), count) if count else found
    return [word if index == 0 else f" {word}" for index, word in enumerate(said)]


def until_stop(texts: list[str], request: Mapping[str, Any]) -> tuple[list[str], bool]:
    stops = request.get("stop") or request.get("stop_sequences") or ()
    whole = "".join(texts)
    ends = [whole.find(stop) for stop in ([stops] if isinstance(stops, str) else stops) if stop]
    ends = [end for end in ends if end >= 0]
    if not ends:
        return texts, False
    rest, kept = whole[: min(ends)], []
    for text in texts:
        if not rest:
            break
        kept.append(rest[: len(text)])
        rest = rest[len(text) :]
    return kept, True


def begun(tokens: list[Token], text: str) -> int:
    """How many of the tokens `text` holds already."""
    count = 0
    while text and count < len(tokens) and text.startswith(tokens[count].text):
        text = text[len(tokens[count].text) :]
        count += 1
    return count


def forced_calls(request: Mapping[str, Any], said: list[str]) -> list[dict[str, Any]]:
    """The call that `tool_choice` requires, in the form of any API."""
    choice = request.get("tool_choice")
    tools = [tool.get("function") or tool for tool in request.get("tools") or ()]
    names = [str(tool.get("name")) for tool in tools]
    arguments = {"text": " ".join(said)}
    if isinstance(choice, dict):
        inner = choice.get("function") or choice
        if isinstance(inner, dict) and inner.get("name"):
            return [{"name": str(inner["name"]), "arguments": arguments}]
        choice = choice.get("type")
    if choice in ("required", "any") and names:
        return [{"name": names[0], "arguments": arguments}]
    return []


def call_tokens(calls: list[dict[str, Any]]) -> list[Token]:
    found = []
    for index, call in enumerate(calls):
        said = orjson.dumps(call.get("arguments") or {}).decode()
        half = len(said) // 2
        found.append(Token(call=index, name=call["name"]))
        found += [Token(call=index, arguments=part) for part in (said[:half], said[half:])]
    return found


# Answers that are not generated, with the tokens that they took.


def embeddings(model: str, request: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """Unit vectors that depend only on the text."""
    given = request["input"]
    several = isinstance(given, list) and bool(given) and not isinstance(given[0], int)
    texts = given if several else [given]
    size = request.get("dimensions") or DIMENSIONS
    data = [
        {"object": "embedding", "index": index, "embedding": _packed(_vector(text, size), request)}
        for index, text in enumerate(texts)
    ]
    tokens = sum(len(t.split()) if isinstance(t, str) else len(t) for t in texts)
    counted = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": model, "usage": counted}, tokens


def _vector(text: object, size: int) -> list[float]:
    seed = orjson.dumps(text)
    raw = [sha256(b"%d%b" % (index, seed)).digest()[0] / 255 - 0.5 + 1e-3 for index in range(size)]
    length = math.sqrt(sum(value * value for value in raw))
    return [value / length for value in raw]


def _packed(vector: list[float], request: Mapping[str, Any]) -> list[float] | str:
    if request.get("encoding_format") != "base64":
        return vector
    return b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def rerank(model: str, request: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    query = set(request["query"].lower().split())
    texts = [each if isinstance(each, str) else each["text"] for each in request["documents"]]
    scores = [len(query & set(text.lower().split())) / max(1, len(query)) for text in texts]
    order = sorted(range(len(texts)), key=lambda index: -scores[index])
    results = [{"index": index, "relevance_score": scores[index]} for index in order]
    tokens = sum(len(text.split()) for text in texts) + len(query) * len(texts)
    counted = {"prompt_tokens": tokens, "total_tokens": tokens}
    kept = results[: request.get("top_n") or len(results)]
    return {"model": model, "object": "list", "results": kept, "usage": counted}, tokens


def moderations(model: str, request: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """A text is flagged for the categories that it names."""
    given = request["input"]
    texts = given if isinstance(given, list) and isinstance(given[0], str) else [_text(given)]
    results = [_judged(text.lower().split()) for text in texts]
    tokens = sum(len(text.split()) for text in texts)
    return {"id": "modr-echo", "model": model, "results": results}, tokens


def _judged(words: list[str]) -> dict[str, Any]:
    named = {name: name in words for name in CATEGORIES}
    return {
        "flagged": any(named.values()),
        "categories": named,
        "category_scores": {name: float(found) for name, found in named.items()},
        "category_applied_input_types": {name: ["text"] for name in CATEGORIES},
    }


def count(_: str, request: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    tokens = sum(len(_text(each.get("content")).split()) for each in request["messages"])
    return {"input_tokens": tokens}, 0


def count_chat(model: str, request: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    return {"object": _COUNTED, **count(model, request)[0]}, 0


def count_input(_: str, request: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    return {"object": _COUNTED, "input_tokens": len(words(request.get("input")))}, 0


PAGES: Mapping[str, Callable[[str, Mapping[str, Any]], tuple[dict[str, Any], int]]] = {
    endpoints.EMBEDDINGS.path: embeddings,
    endpoints.RERANK.path: rerank,
    endpoints.MODERATIONS.path: moderations,
    endpoints.COUNT_TOKENS.path: count,
    endpoints.CHAT_TOKENS.path: count_chat,
    endpoints.INPUT_TOKENS.path: count_input,
}
