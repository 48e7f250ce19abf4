"""Finds pictures and recordings in the requests of each API, by walking over the JSON.

A part of an unknown type is refused: an engine might know the type, and fetch a URL in the part.
Sources: OpenAI's API reference (chat completions, responses), Anthropic's (messages).
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from schemas.api import endpoints, prompts
from schemas.api.endpoints import Endpoint
from schemas.api.messages import documents
from schemas.api.shape import invalid, text_in

VISION, AUDIO = "vision", "audio"
CONTENT = "content"
"""llama-server's own name for the input of embeddings."""
AUDIO_FORMATS = ("wav", "mp3")
"""The formats of OpenAI's API, and all that llama-server takes."""

_TEXTS = frozenset(
    {
        "text",
        "refusal",
        "thinking",
        "redacted_thinking",
        "input_text",
        "output_text",
        "summary_text",
        "reasoning_text",
        "tool_use",
    }
)
"""Types of parts that hold no picture and no recording."""
_USUAL = re.compile(r"data:image/[a-z0-9.+-]+;base64,")
"""How data URLs begin that every engine reads."""
_KNOWN = "text, image_url, input_audio"
_KNOWN_RESPONSES = "input_text, output_text, input_image, input_audio"
_KNOWN_MESSAGES = "text, image, document, search_result, tool_use, tool_result, thinking"


@dataclass(slots=True)
class Part:
    """One picture or recording. `path`: where it lies. `modality`: what a model needs for it.

    `url`: an http(s) or data URL; if "", `data` has the base64. `format`: the format that the
    request names. `put`: puts (content type, base64) in its place. `odd`: it is not written as
    every engine reads it, so that it has to be put again.
    """

    path: str
    modality: str
    url: str
    data: str
    format: str
    put: Callable[[str, str], None]
    odd: bool = False


def find(endpoint: Endpoint, document: dict[str, Any]) -> list[Part]:
    """The pictures and recordings in a request. Raises InvalidRequest for what is no part, or is of
    an unknown type."""
    walk, key = _WALKS[endpoint.word], _LISTS.get(endpoint.word, endpoint.api.prompt)
    if endpoint.word in _SYSTEM:
        for where, part in _parts("system", document.get("system")):
            _need_text(where, part.get("type"), "text")
    items = document.get(key)
    if items is None and endpoint is endpoints.EMBEDDINGS:
        key, items = CONTENT, document.get(CONTENT)
    if isinstance(items, dict):
        return list(walk(key, items))
    if not isinstance(items, list):
        return []
    return [
        part
        for number, item in enumerate(items)
        if isinstance(item, dict)
        for part in walk(f"{key}[{number}]", item)
    ]


def _chat(path: str, message: dict[str, Any]) -> Iterator[Part]:
    for where, part in _parts(f"{path}.content", message.get("content")):
        yield from _chat_part(where, part)


def _chat_part(path: str, part: dict[str, Any]) -> Iterator[Part]:
    match part.get("type"):
        case "image_url":
            yield picture(f"{path}.image_url", _inner(path, part, "image_url"), "url")
        case "input_audio":
            yield _recording(path, part)
        case other:
            _need_text(path, other, _KNOWN)


def _responses(path: str, item: dict[str, Any]) -> Iterator[Part]:
    if isinstance(item.get("output"), dict):  # of a computer's screen, say
        raise invalid(f"{path}.output", "it has to be a text or a list of parts")
    for key in ("content", "output"):
        for where, part in _parts(f"{path}.{key}", item.get(key)):
            match part.get("type"):
                case "input_image":
                    yield picture(f"{where}.image_url", part, "image_url")
                case "input_audio":
                    yield _recording(where, part)
                case other:
                    _need_text(where, other, _KNOWN_RESPONSES)


def _messages(path: str, message: dict[str, Any]) -> Iterator[Part]:
    for where, part in _parts(f"{path}.content", message.get("content")):
        match part.get("type"):
            case "image":
                yield _sourced(f"{where}.source", _inner(where, part, "source"))
            case "document" | "search_result" as kind:
                yield from _document(*documents.parts_of(part, where), kind)
            case "tool_result":
                yield from _messages(where, part)
            case other:
                _need_text(where, other, _KNOWN_MESSAGES)


def _document(path: str, content: object, kind: str) -> Iterator[Part]:
    """The pictures in a document; a search result has none."""
    pictured = kind == documents.DOCUMENT
    for where, part in _parts(path, content):
        if pictured and part.get("type") == "image":
            yield _sourced(f"{where}.source", _inner(where, part, "source"))
        elif part.get("type") == "text":
            text_in(part, "text", where)
        else:
            raise invalid(f"{where}.type", f"{'text or image' if pictured else 'text'} is needed")


def _prompt(path: str, prompt: dict[str, Any]) -> Iterator[Part]:
    """The pictures and recordings of llama-server's own form of a prompt. It does not say which is
    which."""
    shown: list[str] = prompt.get(prompts.DATA) or []
    for number, data in enumerate(shown):
        where, sound = f"{path}.{prompts.DATA}[{number}]", _sound_in(data)
        put = partial(_put_bare, shown, number)
        yield Part(where, AUDIO if sound else VISION, "", data, sound, put)


def _sound_in(base64: str) -> str:
    """The format of a recording in base64; "" if it is none."""
    try:
        return sound_format(binascii.a2b_base64(base64[:16]))
    except ValueError:
        return ""


def sound_format(content: bytes) -> str:
    """One of AUDIO_FORMATS, by the first bytes of a recording; "" if it begins as none of them."""
    if content[:4] == b"RIFF" and content[8:12] == b"WAVE":
        return "wav"
    framed = len(content) > 1 and content[0] == 0xFF and content[1] & 0xE0 == 0xE0
    return "mp3" if content[:3] == b"ID3" or framed else ""


_WALKS: Mapping[str, Callable[[str, dict[str, Any]], Iterator[Part]]] = {
    endpoints.COMPLETIONS.word: _prompt,
    endpoints.OWN_COMPLETION.word: _prompt,
    endpoints.EMBEDDINGS.word: _prompt,
    endpoints.CHAT.word: _chat,
    endpoints.CHAT_TOKENS.word: _chat,
    endpoints.TEMPLATE.word: _chat,
    endpoints.TOKENIZE.word: _chat,
    endpoints.CLASSIFY.word: _chat,
    endpoints.POOLING.word: _chat,
    endpoints.RESPONSES.word: _responses,
    endpoints.INPUT_TOKENS.word: _responses,
    endpoints.MESSAGES.word: _messages,
    endpoints.COUNT_TOKENS.word: _messages,
    endpoints.MODERATIONS.word: _chat_part,
}
"""For each endpoint, the walk over one item of the list that holds messages or parts."""
_LISTS = dict.fromkeys((endpoints.CLASSIFY.word, endpoints.POOLING.word), "messages")
"""The field with that list, where the input may stand elsewhere."""
_SYSTEM = frozenset({endpoints.MESSAGES.word, endpoints.COUNT_TOKENS.word})
"""Endpoints with a `system` prompt beside the messages, which may be a list of text parts."""


def _parts(path: str, content: object) -> Iterator[tuple[str, dict[str, Any]]]:
    if not isinstance(content, list):
        return
    for number, part in enumerate(content):
        where = f"{path}[{number}]"
        if not isinstance(part, dict):
            raise invalid(where, "it has to be an object")
        yield where, part


def _need_text(path: str, kind: object, known: str) -> None:
    if not isinstance(kind, str) or kind not in _TEXTS:
        said = f"{str(kind)[:64]!r} is no type of a part that is supported here"
        raise invalid(f"{path}.type", f"{said}. Supported are: {known}")


def _inner(path: str, part: dict[str, Any], name: str) -> dict[str, Any]:
    inner = part.get(name)
    if not isinstance(inner, dict):
        raise invalid(f"{path}.{name}", "it has to be an object")
    return inner


def _text(path: str, box: dict[str, Any], name: str) -> str:
    found = box.get(name)
    if not isinstance(found, str) or not found:
        raise invalid(path, f"{name!r} has to be a text that is not empty")
    return found


def picture(path: str, box: dict[str, Any], key: str) -> Part:
    """The picture in `box`. `path` names it as OpenAI does, without the last ``.url``."""

    def put(content_type: str, base64: str) -> None:
        box[key] = f"data:{content_type};base64,{base64}"

    url = _text(path, box, key)
    return Part(path, VISION, url, "", "", put, _USUAL.match(url) is None)


def _recording(path: str, part: dict[str, Any]) -> Part:
    path = f"{path}.input_audio"
    box = _inner(path.rpartition(".")[0], part, "input_audio")
    said = box.get("format")
    kind = said.lower() if isinstance(said, str) else said
    if kind not in AUDIO_FORMATS:
        raise invalid(f"{path}.format", f"it has to be one of {', '.join(AUDIO_FORMATS)}")

    def put(_content_type: str, base64: str) -> None:
        box.update(format=kind, data=base64)

    return Part(path, AUDIO, "", _text(path, box, "data"), str(kind), put, kind != said)


def _sourced(path: str, box: dict[str, Any]) -> Part:
    """Anthropic's picture: ``{"type": "base64", "media_type", "data"}`` or ``{"type": "url",
    "url"}``."""

    def put(content_type: str, base64: str) -> None:
        box.clear()
        box.update(type="base64", media_type=content_type, data=base64)

    match box.get("type"):
        case "base64":
            return Part(path, VISION, "", _text(path, box, "data"), "", put)
        case "url":
            return Part(path, VISION, _text(path, box, "url"), "", "", put)
    raise invalid(f"{path}.type", "it has to be 'base64' or 'url'")


def _put_bare(shown: list[str], number: int, _content_type: str, base64: str) -> None:
    """The `put` of what is base64 and nothing else, in a list."""
    shown[number] = base64
