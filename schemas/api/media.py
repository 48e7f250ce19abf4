"""Sounds and pictures: ``POST /v1/audio/…`` and ``/v1/images/…``, as JSON or as fields of a form.

Engines check the bounds that only some of them have (a language, a voice, a size).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Required

from pydantic import BeforeValidator, Field
from typing_extensions import TypedDict

from schemas.api import sse
from schemas.api.base import Api, Event, texts_of
from schemas.api.shape import Model, Request, Seed, Shape, invalid

GRANULARITIES = "timestamp_granularities"
MAX_INPUT = 4096
"""Characters to be spoken; OpenAI's limit."""
MAX_PROMPT = 32_000
"""Characters; OpenAI's limit for its own image models."""
_SIZE = re.compile(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}")
_Named = Annotated[Model, Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class Form:
    """How to read a form as if it were JSON. `reads`: for a field, the function from its text to
    its value; it returns the text itself if it cannot read it. Other fields stay texts. `files`:
    the names of uploads."""

    reads: Mapping[str, Callable[[str], Any]]
    files: frozenset[str]


def number(text: str) -> Any:
    """The number that JSON would read: 1 is an int, and a word stays a text."""
    for kind in (int, float):
        try:
            # Python also reads 1_000 and the digits of other scripts, and JSON does not.
            return kind(text) if text.isascii() and "_" not in text else text
        except ValueError:
            continue
    return text


def flag(text: str) -> Any:
    return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)


def one_or_more(text: str) -> Any:
    return [text]


def _lower(found: Any) -> Any:
    return found.lower() if isinstance(found, str) else found


class TranscriptionRequest(TypedDict, total=False):
    model: _Named | None
    language: str | None
    prompt: str | None
    response_format: Literal["json", "text", "srt", "verbose_json", "vtt", "diarized_json"] | None
    temperature: Annotated[float, Field(ge=0, le=1)] | None
    timestamp_granularities: list[Literal["word", "segment"]] | None
    stream: bool | None


class _Heard(TranscriptionRequest, total=False):
    """A form's fields are texts; those named ``x[]`` are lists of them."""

    chunking_strategy: str | None
    include: str | list[str] | None
    known_speaker_names: str | list[str] | None
    known_speaker_references: str | list[str] | None


class SpeechRequest(TypedDict, total=False):
    """`voice`: a name, or an object that names a voice of the account."""

    model: _Named | None
    input: Required[Annotated[str, Field(max_length=MAX_INPUT)]]
    voice: Required[Annotated[str, Field(min_length=1, max_length=256)] | dict[str, Any]]
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] | None
    speed: Annotated[float, Field(ge=0.25, le=4)] | None
    instructions: Annotated[str, Field(max_length=MAX_INPUT)] | None
    stream_format: Literal["audio", "sse"] | None
    stream: bool | None


class ImageRequest(TypedDict, total=False):
    model: _Named | None
    prompt: Required[Annotated[str, Field(max_length=MAX_PROMPT)]]
    n: Annotated[int, Field(ge=1, le=10)] | None
    size: str | None
    response_format: Literal["url", "b64_json"] | None
    output_format: Annotated[Literal["png", "jpeg", "webp"], BeforeValidator(_lower)] | None
    output_compression: Annotated[int, Field(ge=0, le=100)] | None
    quality: Literal["auto", "standard", "hd", "low", "medium", "high"] | None
    style: Literal["vivid", "natural"] | None
    background: Literal["auto", "transparent", "opaque"] | None
    moderation: Literal["auto", "low"] | None
    input_fidelity: Literal["high", "low"] | None
    partial_images: Annotated[int, Field(ge=0, le=3)] | None
    seed: Seed | None
    stream: bool | None
    user: str | None


def _check_transcription(request: Request) -> None:
    """Only 'word' is refused: some clients always ask for segments, whatever the format."""
    wanted = request.get(GRANULARITIES) or ()
    if "word" in wanted and request.get("response_format") != "verbose_json":
        raise invalid(GRANULARITIES, "'word' needs response_format 'verbose_json'")


def _check_speech(request: Request) -> None:
    if not request["input"].strip():
        raise invalid("input", "it must not be empty")


def _check_image(request: Request) -> None:
    if not request["prompt"].strip():
        raise invalid("prompt", "it must not be empty")
    size = request.get("size")
    if size not in (None, "auto") and _SIZE.fullmatch(size) is None:
        raise invalid("size", "'auto' or WIDTHxHEIGHT is needed, like '512x512'")
    if request.get("stream") and request.get("response_format") == "url":
        raise invalid("response_format", "a stream carries 'b64_json' alone")


TRANSCRIPTION = Shape(_Heard, _check_transcription)
TRANSLATION = Shape(TranscriptionRequest, _check_transcription)
SOUND = Form(
    # `translate` and `vad` are whisper-server's own fields.
    {"temperature": number, GRANULARITIES: one_or_more}
    | dict.fromkeys(("stream", "translate", "vad"), flag),
    frozenset({"file"}),
)
SPEECH = Shape(SpeechRequest, _check_speech)
IMAGE = Shape(ImageRequest, _check_image)
"""For generations (JSON) and edits (a form)."""
PICTURES = Form(
    {"stream": flag} | dict.fromkeys(("n", "output_compression", "partial_images", "seed"), number),
    frozenset({"image", "image[]", "mask"}),  # OpenAI's clients send several as image[]
)

_ENDS = frozenset(
    {
        "transcript.text.done",
        "speech.audio.done",
        "image_generation.completed",
        "image_edit.completed",
    }
)
"""Types of last events; ``[DONE]`` may follow. Each picture of several has one."""
_PRODUCED = re.compile(rb'"(?:delta|text|audio|b64_json)"\s*:\s*"[^"]')


class Media(Api):
    """See `schemas.api.base.Api`."""

    named = True
    names_model = False
    prompt = "prompt"
    streamed = texts_of("delta")
    drawn = re.compile(rb'"type"\s*:\s*"image_(?:generation|edit)\.completed"')
    """Finds the last event of each picture in the bytes of a stream."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = _PRODUCED

    def is_last(self, event: Event) -> bool:
        return event.get("type") in _ENDS


API = Media()


def transcript(pieces: Iterable[str], text: str, usage: Mapping[str, Any] | None) -> bytes:
    """The events of a transcription: first the pieces of the text, then the whole text. Their usage
    is one of tokens, by OpenAI's reference; seconds are told in documents alone."""
    told = {"usage": usage} if usage and usage.get("type") == "tokens" else {}
    events: list[Event] = [
        *({"type": "transcript.text.delta", "delta": piece} for piece in pieces if piece),
        {"type": "transcript.text.done", "text": text, **told},
    ]
    return b"".join(sse.dump(event, named=True) for event in events)


def transcript_of(found: Mapping[str, Any]) -> bytes:
    """The events for the whole answer of a server that does not stream, such as OpenAI's whisper-1.
    The answer has a `text`."""
    return transcript([found["text"]], found["text"], found.get("usage"))
