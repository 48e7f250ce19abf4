"""Upper bounds of what a request may use; `pricing` explains why they hold. Pure."""

from __future__ import annotations

import binascii
import math
import unicodedata
from collections.abc import Mapping
from typing import Any

from fallback.cost import duration
from schemas.api.endpoints import ENDPOINTS

OUTPUT_TOKENS = 4096
"""The limit of an answer where the request sets none; the provider is sent this limit."""
MESSAGE_TOKENS = 16
"""The most that a chat template adds to a message."""
TEMPLATE_TOKENS = 200
"""Tokens of a chat template before all messages: gpt-oss has some 90, Llama and Qwen 30."""
TOOL_TOKENS = 1000
"""Tokens of a chat template once there are tools, and for each tool that the provider describes
itself: Claude has up to 600 and 750 (its page "Pricing")."""
AUDIO_TOKENS = 32
"""Tokens for a second of sound in a prompt: Gemini counts 32 (its page "Audio understanding"),
others fewer."""
DRAFT_TOKENS = 100
"""Tokens of an unfinished picture in a stream (OpenAI's guide "Image generation")."""
SPOKEN_LIMIT = 2000
SPOKEN_TOKENS = 10
"""Most tokens of a transcript: the limit, plus `SPOKEN_TOKENS` for each second. OpenAI's models
write up to 2,000 (their pages), and more for a recording that is cut in pieces; nobody speaks more
than 10 tokens a second for long."""
BYTES_A_SECOND = 1000
"""A recording whose length cannot be told is taken to have 8 kbit/s, the lowest rate of MP3."""

LIMITS = sorted({name for endpoint in ENDPOINTS for name in endpoint.api.limits})
_PICTURES = ("image_url", "input_image", "image")
_PAYLOADS = {"image_url": "url", "source": "data"}
"""Where a part holds its picture: a field with the text, or an object whose field has the text."""


def output_limit(request: Mapping[str, Any]) -> int:
    """Tokens that the answer may have: the request's own limit, else `OUTPUT_TOKENS`."""
    given = [request[name] for name in LIMITS if isinstance(request.get(name), int)]
    return max((each for each in given if each > 0), default=OUTPUT_TOKENS)


def limits(value: Any) -> bool:
    """Whether a field's value limits an answer. 0 does: it asks for the scores of the prompt."""
    return isinstance(value, int) and value >= 0


def predicted_tokens(request: Mapping[str, Any]) -> int:
    """Tokens of a predicted answer: providers charge those that the answer lacks like its own."""
    said = request.get("prediction")
    return prompt_tokens(said, 0) if isinstance(said, Mapping) else 0


def copies(request: Mapping[str, Any]) -> int:
    """How many answers or pictures are asked for."""
    given = [_whole(request.get(name)) for name in ("n", "best_of")]  # all of `best_of` are charged
    return max(1, *given)


def prompts(request: Mapping[str, Any]) -> int:
    """How many prompts a request for completions has: each gets its own answer."""
    given = request.get("prompt")
    if not isinstance(given, list) or not any(isinstance(each, str | list) for each in given):
        return 1
    return len(given)


def _whole(value: Any) -> int:
    """A number, also from a form's text; 0 for anything else."""
    try:
        return int(value)
    except (TypeError, ValueError):
        return 0


def prompt_tokens(request: Mapping[str, Any], image_tokens: int, beside: int = 0) -> int:
    """Most tokens of the prompt: of every text in the request (field names too), of its pictures
    and sound, and those `beside`. With `cache_control` all count twice, as a provider may charge up
    to twice the price for writing to its cache."""
    total, cached = beside, False
    # Not by recursion: orjson reads 1,024 levels, more than Python's stack takes.
    rest: list[Any] = [request]
    while rest:
        value = rest.pop()
        if isinstance(value, str):
            total += 1 + _bytes(value)
        elif isinstance(value, Mapping):
            cached = cached or "cache_control" in value
            tokens, read = _read(value, image_tokens)
            total += MESSAGE_TOKENS + tokens
            rest += [*read.keys(), *read.values()]
        elif isinstance(value, list | tuple):
            rest += value
        else:
            total += 1 + len(str(value))
    return total * (2 if cached else 1)


def template_tokens(request: Mapping[str, Any]) -> int:
    """Most tokens that the provider's template adds to the request's own words."""
    tools = request.get("tools") or request.get("functions")
    if not isinstance(tools, list) or not tools:
        return TEMPLATE_TOKENS
    named = (each.get("type") for each in tools if isinstance(each, Mapping))
    known = sum(kind not in (None, "function", "custom") for kind in named)
    return TEMPLATE_TOKENS + TOOL_TOKENS * (1 + known)


def _bytes(text: str) -> int:
    """Bytes of UTF-8. Some tokenizers first replace ligatures and the like with several letters
    (NFKC), so the longer form counts."""
    size = len(text.encode("utf-8", "surrogatepass"))
    if size == len(text):
        return size
    spelt = unicodedata.normalize("NFKC", text)
    return max(size, len(spelt.encode("utf-8", "surrogatepass")))


def _read(part: Mapping[str, Any], image_tokens: int) -> tuple[int, Mapping[str, Any]]:
    """(tokens of the picture or sound in `part`, the rest, which counts as text). Clients choose
    `type` freely, so only the one text with the picture or sound is taken out of the rest."""
    kind = part.get("type")
    if kind in _PICTURES:
        for name, inside in _PAYLOADS.items():
            held, kept = _without(part.get(name), inside)
            if held is not None:
                return image_tokens, {**part, name: kept}
    if kind == "input_audio":
        held, kept = _without(part.get(kind), "data")
        if held is not None:
            return math.ceil(_length(_bytes_of(held)) * AUDIO_TOKENS), {**part, kind: kept}
    return 0, part


def _without(value: Any, inside: str) -> tuple[str | None, Any]:
    """(the text that is `value` or is in its field `inside`, `value` without the text)."""
    if isinstance(value, str):
        return value, None
    found = value.get(inside) if isinstance(value, Mapping) else None
    return (found, {**value, inside: None}) if isinstance(found, str) else (None, value)


def drafts(request: Mapping[str, Any]) -> int:
    """Unfinished pictures that a stream shows before each finished one."""
    return max(0, _whole(request.get("partial_images")))


def pictures_given(request: Mapping[str, Any]) -> int:
    """Pictures that a request to edit uploads, its mask and whatever else included."""
    return max(1, sum(map(len, filter(_is_uploaded, request.values()))))


def texts(request: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a form that are no uploads."""
    return {name: value for name, value in request.items() if not _is_uploaded(value)}


def _is_uploaded(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], bytes)


def seconds(recordings: Any, size: int) -> float:
    """The length of all recordings, or a guess from the body's `size` if there are none to read."""
    if not isinstance(recordings, list | tuple):
        return size / BYTES_A_SECOND
    return sum(map(_length, recordings))


def _length(recording: bytes) -> float:
    most = duration.most(recording)
    return len(recording) / BYTES_A_SECOND if most is None else most


def _bytes_of(base64: str) -> bytes:
    """The decoded bytes; text that is not base64 counts as it is."""
    try:
        return binascii.a2b_base64(base64)
    except ValueError:
        return base64.encode("utf-8", "surrogatepass")
