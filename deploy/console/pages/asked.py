"""What the playground asks an ingress for: the body of a request, with the files that it has still
as files, so that it can also be shown with their names in the place of their bytes. Pure."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.api.endpoints import CHAT, IMAGES, TRANSCRIPTIONS, TRANSLATIONS

MOST = 8 * 2**20
"""Bytes of one file; the limit of an ingress's bodies is larger by default."""
MOST_IN_ALL = 16 * 2**20
"""Bytes of all files of a conversation, which the page has and each of its requests sends."""
MOST_FILES = 8
"""Files of one message."""
MOST_TURNS = 200
"""Messages of one conversation."""
MOST_TEXT = 4_000_000
"""Characters of all messages of a conversation: as many as any model reads."""
PICTURES: Mapping[str, str] = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
}
"""Endings of names, and types, of pictures that engines read."""
SOUNDS: Mapping[str, str] = {"wav": "audio/wav", "mp3": "audio/mpeg"}
"""The same of recordings in chats: all that OpenAI's API has there."""
HEARD: Mapping[str, str] = {
    **SOUNDS,
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "m4a": "audio/mp4",
    "mp4": "audio/mp4",
    "webm": "audio/webm",
}
"""The same of recordings that are to be written down."""
_ODD = re.compile(r"[^\w.()+-]+")


class Wrong(ValueError):
    """A request that cannot be sent; the message says what to mend."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of the user's. `name`: see `named`. `type`: its MIME type."""

    name: str
    type: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Inline:
    """A file as base64 in a JSON body, there in the place of a text. `whole`: as a data URL."""

    file: File
    whole: bool

    @property
    def head(self) -> str:
        return f"data:{self.file.type};base64," if self.whole else ""

    @property
    def text(self) -> str:
        return self.head + base64.b64encode(self.file.content).decode()


@dataclass(frozen=True, slots=True)
class Asked:
    """A request. `body`: a JSON object, which may have `Inline` as values; with `file`, the fields
    of a form beside that upload."""

    path: str
    body: Mapping[str, Any]
    file: File | None = None

    def document(self) -> dict[str, Any]:
        """The body as it is sent."""
        said: dict[str, Any] = _resolved(self.body)
        return said


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a chat: `role` is user or assistant."""

    role: str
    text: str
    files: tuple[File, ...] = ()


def named(name: str) -> str:
    """A file's name, with letters alone that need no thought in a shell or a form."""
    plain = _ODD.sub("_", name.rpartition("/")[2].rpartition("\\")[2])[-80:]
    return plain.lstrip("-.") or "file"


def decoded(text: str) -> bytes:
    """Raises ValueError."""
    return base64.b64decode(text, validate=True)


def ending(name: str) -> str:
    return name.rpartition(".")[2].lower()


def taken(name: str, content: bytes, known: Mapping[str, str]) -> File:
    """A file with an ending that is `known`. Raises Wrong."""
    kind = known.get(ending(name))
    if kind is None:
        raise Wrong(f"{named(name)}: files that can be sent here end in {', '.join(known)}.")
    if not content:
        raise Wrong(f"{named(name)}: the file is empty.")
    if len(content) > MOST:
        raise Wrong(f"{named(name)}: it has more than {MOST // 2**20} MiB.")
    return File(named(name), kind, content)


def added(chosen: Sequence[File], file: File, most: int) -> list[File]:
    """The files of one message with another one. `most`: how many. Raises Wrong."""
    if len(chosen) >= most:
        raise Wrong(f"{file.name}: at most {most} files at once.")
    if _size([*chosen, file]) > MOST_IN_ALL:
        raise Wrong(f"{file.name}: all files together have at most {MOST_IN_ALL // 2**20} MiB.")
    return [*chosen, file]


def check_room(turns: Sequence[Turn], turn: Turn) -> None:
    """Raises Wrong if a conversation is too long for `turn`."""
    whole = [*turns, turn]
    if len(whole) > MOST_TURNS or sum(len(each.text) for each in whole) > MOST_TEXT:
        raise Wrong("The conversation is very long: begin a new one.")
    if _size(file for each in whole for file in each.files) > MOST_IN_ALL:
        most = f"{MOST_IN_ALL // 2**20} MiB of files"
        raise Wrong(f"A conversation has at most {most}: begin a new one.")


def chat(
    model: str, system: str, turns: Iterable[Turn], more: Mapping[str, Any] | None = None
) -> Asked:
    """A chat that streams, and tells its usage. `more`: further fields of its body."""
    messages: list[dict[str, Any]] = []
    if system.strip():
        messages.append({"role": "system", "content": system})
    messages += [{"role": turn.role, "content": _content(turn)} for turn in turns]
    streamed = {"stream": True, "stream_options": {"include_usage": True}}
    return Asked(CHAT.path, {"model": model, "messages": messages, **streamed, **(more or {})})


def transcription(
    model: str, file: File, *, language: str = "", prompt: str = "", translated: bool = False
) -> Asked:
    """`translated`: into English, by the endpoint of its own, which takes no language."""
    said = {"model": model, "language": "" if translated else language.strip(), "prompt": prompt}
    endpoint = TRANSLATIONS if translated else TRANSCRIPTIONS
    return Asked(endpoint.path, {name: text for name, text in said.items() if text.strip()}, file)


def picture(model: str, prompt: str, more: Mapping[str, Any] | None = None) -> Asked:
    """Raises Wrong without a prompt."""
    if not prompt.strip():
        raise Wrong("Say what the picture is to show.")
    said = {"model": model, "prompt": prompt, "response_format": "b64_json", **(more or {})}
    return Asked(IMAGES.path, said)


def _size(files: Iterable[File]) -> int:
    return sum(len(file.content) for file in files)


def _content(turn: Turn) -> str | list[dict[str, Any]]:
    if not turn.files:
        return turn.text
    parts: list[dict[str, Any]] = [{"type": "text", "text": turn.text}] if turn.text.strip() else []
    return parts + [_part(file) for file in turn.files]


def _part(file: File) -> dict[str, Any]:
    if file.type in PICTURES.values():
        return {"type": "image_url", "image_url": {"url": Inline(file, whole=True)}}
    form = "wav" if file.type == SOUNDS["wav"] else "mp3"
    return {
        "type": "input_audio",
        "input_audio": {"data": Inline(file, whole=False), "format": form},
    }


def _resolved(value: Any) -> Any:
    if isinstance(value, Inline):
        return value.text
    if isinstance(value, Mapping):
        return {name: _resolved(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_resolved(each) for each in value]
    return value
