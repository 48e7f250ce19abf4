"""Sounds and pictures. Every probe raises Unmet or Partial where the behaviour is missing."""

from __future__ import annotations

import re
from base64 import b64decode
from typing import Any

from deploy.compat.rows import SLOW, at, row
from deploy.compat.samples import clip, red_square, speech
from deploy.compat.target import MISSHAPEN, Partial, Target, Unmet, need, quoted, text_of
from deploy.compat.transport import Answer
from schemas import pictures
from schemas.api import endpoints
from schemas.multipart import Part

_SIZE = 256
"""Pixels of a side: small, and yet every model of pictures can."""
_DRAW = {"prompt": "A red water wheel.", "n": 1, "size": f"{_SIZE}x{_SIZE}"}
_COLOUR = "What colour is this picture? Answer with one word."
_TRANSCRIBE = endpoints.TRANSCRIPTIONS.path
_FORMATS = ("json", "text", "srt", "vtt", "verbose_json")
_TIMES = re.compile(r"\d\d:\d\d[,.]\d{3} --> (\d\d:)?\d\d:\d\d[,.]\d{3}")
_TOLERANCE = 0.5
"""Decoders disagree by some tenths of a second on how long an MP3 is."""


@row("vision", "the picture takes tokens of the prompt")
async def vision(target: Target) -> str:
    """A picture takes tokens where it is read; what a small model makes of it is its own affair."""
    text = {"type": "text", "text": _COLOUR}
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{red_square(64)}"}}
    blind = (await target.chat([_user([text])]))["usage"]["prompt_tokens"]
    found = await target.chat([_user([text, picture])])
    more = found["usage"]["prompt_tokens"] - blind
    need(more > 0, "the request passed, but the picture took no tokens: it was not read")
    if "red" in text_of(found).lower():
        return f"the picture took {more} tokens, and it named the colour"
    return f"the picture took {more} tokens; the model said {quoted(text_of(found))} of it"


@at(endpoints.IMAGES, "a picture of the size that was asked for", SLOW)
async def images(target: Target) -> str:
    found = await target.ask(endpoints.IMAGES.path, {**_DRAW, "response_format": "b64_json"})
    return _drawn(found)


@at(endpoints.EDITS, "a picture of the size that was asked for", SLOW)
async def edits(target: Target) -> str:
    fields = [Part(name, str(value).encode()) for name, value in _DRAW.items()]
    image = Part("image", b64decode(red_square(_SIZE)), "wheel.png", "image/png")
    return _drawn((await target.upload(endpoints.EDITS.path, [image, *fields])).json)


@at(endpoints.TRANSCRIPTIONS, "the words of a recorded sentence", SLOW)
async def transcriptions(target: Target) -> str:
    text = (await _hear(target, _TRANSCRIBE, "json")).json["text"].strip()
    return _heard(text)


@at(endpoints.TRANSLATIONS, "the words of a recorded sentence", SLOW)
async def translations(target: Target) -> str:
    answer = await _hear(target, endpoints.TRANSLATIONS.path, "json")
    heard = _heard(answer.json["text"].strip())
    if but := answer.headers.get("x-headrace-warning"):
        raise Partial(f"{heard}; {but}")
    return heard


@row(
    "transcriptions: every response_format",
    "json, text, srt, vtt, verbose_json, each in its own form",
    SLOW,
)
async def formats(target: Target) -> str:
    missing = []
    for name in _FORMATS:
        try:
            _need_form(name, await _hear(target, _TRANSCRIBE, name))
        except Unmet as unmet:
            missing.append(f"{name}: {unmet.reason}")
        except MISSHAPEN:
            missing.append(f"{name}: the answer has not its form")
    if len(missing) == len(_FORMATS):  # one cause for all of them: the model does not transcribe
        raise Unmet(missing[0].partition(": ")[2])
    if missing:
        raise Partial("; ".join(missing))
    return f"{', '.join(_FORMATS)}, each in its own form"


async def _hear(target: Target, path: str, kind: str) -> Answer:
    sound = Part("file", clip(), "speech.mp3", "audio/mpeg")
    return await target.upload(path, [sound, Part("response_format", kind.encode())])


def _heard(text: str) -> str:
    need(text, "the request passed, and no text came")
    says = speech()["says"]
    if says not in re.sub(r"[^a-z ]", "", text.lower()):
        raise Partial(f"it heard {quoted(text)} where {quoted(says)} is said")
    return f"it heard {quoted(text)}"


def _drawn(found: Any) -> str:
    need(len(found["data"]) == 1, f"{len(found['data'])} pictures came for n: 1")
    try:
        head = pictures.head(b64decode(found["data"][0]["b64_json"]))
    except pictures.NoPicture as fault:
        raise Unmet(f"what came {fault}") from None
    told = f"a {head.format.upper()} of {head.width}x{head.height} pixels"
    if (head.width, head.height) != (_SIZE, _SIZE):
        raise Partial(f"{told} came where {_DRAW['size']} was asked for")
    return told


def _need_form(kind: str, answer: Answer) -> None:
    """Raises Unmet unless the answer has the form that `kind`, its response_format, means."""
    text = answer.body.decode()
    match kind:
        case "json":
            need(answer.json["text"].strip(), "no text")
        case "text":
            told = answer.headers["content-type"]
            need(told.startswith("text/plain"), told)
            need(text.strip() and not text.lstrip().startswith("{"), "no plain text")
        case "srt":
            fits = text.lstrip().startswith("1\n") and _TIMES.search(text)
            need(fits, f"no SubRip: {quoted(text)}")
        case "vtt":
            fits = text.startswith("WEBVTT") and _TIMES.search(text)
            need(fits, f"no WebVTT: {quoted(text)}")
        case "verbose_json":
            found, seconds = answer.json, speech()["seconds"]
            off = abs(float(found["duration"]) - seconds)
            need(off < _TOLERANCE, f"{found['duration']} s for {seconds} s")
            need(found["segments"], "no segments")
            ends = all(each["start"] <= each["end"] for each in found["segments"])
            need(ends, "a segment ends early")


def _user(parts: list[Any]) -> dict[str, Any]:
    return {"role": "user", "content": parts}
