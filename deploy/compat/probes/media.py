"""Sounds and pictures. Every probe raises No or Partial where the behaviour is missing."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Callable
from typing import Any

from deploy.compat.samples import clip, picture_url, png, speech
from deploy.compat.target import MISSHAPEN, No, Partial, Target, Unmet, need, quoted, text_of
from deploy.compat.transport import Answer
from schemas import pictures
from schemas.api import endpoints
from schemas.multipart import Part

_SIZE = 256
"""Pixels of a side: small, and yet every model of pictures can."""
_DRAW = {"prompt": "A red water wheel.", "n": 1, "size": f"{_SIZE}x{_SIZE}"}
_COLOUR = "What colour is this picture? Answer with one word."
_TRANSCRIBE = endpoints.TRANSCRIPTIONS.path
_TIMES = re.compile(r"\d\d:\d\d[,.]\d{3} --> (\d\d:)?\d\d:\d\d[,.]\d{3}")
_TOLERANCE = 0.5
"""Seconds by which decoders disagree on how long an MP3 is."""


async def vision(target: Target) -> str:
    """A picture takes tokens where it is read; what a small model makes of it is its own affair."""
    text = {"type": "text", "text": _COLOUR}
    picture = {"type": "image_url", "image_url": {"url": picture_url()}}
    blind = (await target.chat([_user([text])]))["usage"]["prompt_tokens"]
    found = await target.chat([_user([text, picture])])
    more = found["usage"]["prompt_tokens"] - blind
    need(more > 0, "the request passed, but the picture took no tokens: it was not read")
    if "red" in text_of(found).lower():
        return f"the picture took {more} tokens, and it named the colour"
    return f"the picture took {more} tokens; the model said {quoted(text_of(found))} of it"


async def images(target: Target) -> str:
    found = await target.ask(endpoints.IMAGES.path, {**_DRAW, "response_format": "b64_json"})
    return _drawn(found)


async def edits(target: Target) -> str:
    fields = [Part(name, str(value).encode()) for name, value in _DRAW.items()]
    image = Part("image", png(_SIZE), "wheel.png", "image/png")
    return _drawn((await target.upload(endpoints.EDITS.path, [image, *fields])).json)


async def transcriptions(target: Target) -> str:
    text = (await _hear(target, _TRANSCRIBE, "json")).json["text"].strip()
    return _heard(text)


async def translations(target: Target) -> str:
    answer = await _hear(target, endpoints.TRANSLATIONS.path, "json")
    heard = _heard(answer.json["text"].strip())
    if but := answer.headers.get("x-headrace-warning"):
        raise Partial(f"{heard}; {but}")
    return heard


async def formats(target: Target) -> str:
    missing = []
    for name, judge in _FORMATS.items():
        try:
            judge(await _hear(target, _TRANSCRIBE, name))
        except Unmet as unmet:
            missing.append(f"{name}: {unmet.reason}")
        except MISSHAPEN:
            missing.append(f"{name}: the answer has not its form")
    if len(missing) == len(_FORMATS):
        raise No(missing[0].partition(": ")[2])
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
        raise No(f"what came {fault}") from None
    told = f"a {head.format.upper()} of {head.width}x{head.height} pixels"
    if (head.width, head.height) != (_SIZE, _SIZE):
        raise Partial(f"{told} came where {_DRAW['size']} was asked for")
    return told


def _json(answer: Answer) -> None:
    need(answer.json["text"].strip(), "no text")


def _text(answer: Answer) -> None:
    need(answer.headers["content-type"].startswith("text/plain"), answer.headers["content-type"])
    need(answer.body.strip() and not answer.body.lstrip().startswith(b"{"), "no plain text")


def _srt(answer: Answer) -> None:
    text = answer.body.decode()
    need(text.lstrip().startswith("1\n") and _TIMES.search(text), f"no SubRip: {quoted(text)}")


def _vtt(answer: Answer) -> None:
    text = answer.body.decode()
    need(text.startswith("WEBVTT") and _TIMES.search(text), f"no WebVTT: {quoted(text)}")


def _verbose(answer: Answer) -> None:
    found = answer.json
    off = abs(float(found["duration"]) - speech()["seconds"])
    need(off < _TOLERANCE, f"{found['duration']} s for {speech()['seconds']} s")
    need(found["segments"], "no segments")
    need(all(each["start"] <= each["end"] for each in found["segments"]), "a segment ends early")


_FORMATS: dict[str, Callable[[Answer], None]] = {
    "json": _json,
    "text": _text,
    "srt": _srt,
    "vtt": _vtt,
    "verbose_json": _verbose,
}


def _user(parts: list[Any]) -> dict[str, Any]:
    return {"role": "user", "content": parts}
