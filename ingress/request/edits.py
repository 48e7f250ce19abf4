"""Edits of pictures as JSON, with the pictures as data URLs or addresses: written as the form that
every engine and provider reads. Source: OpenAI's API reference (create image edit)."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from starlette.requests import Request

from ingress.request import base64
from ingress.request.forms import LARGE, Form, written
from ingress.request.media import Media
from ingress.request.parts import picture
from schemas import pictures
from schemas.api.shape import invalid, missing
from schemas.multipart import Part

MAX_IMAGES = 16
"""Images in one edit, as many as OpenAI takes."""
IMAGES, MASK = "images", "mask"
_URL, _OF_FORMS = "image_url", "image"
_NAME = re.compile(r"[^\[\r\n]+")
"""Names that mean the same in a form."""


async def as_form(media: Media, request: Request, document: dict[str, Any], size: int) -> Form:
    """The form for a checked request, of which only the texts are left. `size`: bytes of its body.
    Raises as `Media.resolve`."""
    boxes = _boxes(document.pop(IMAGES, None), document.pop(MASK, None))
    told = [(name, value) for name, value in document.items() if value is not None]
    parts = [Part(name, _text(name, value).encode()) for name, value in told]
    shown = [picture(f"{path}.{_URL}", box, _URL) for path, box in boxes.items()]
    await media.settle(request, shown, size)
    shown.clear()  # each text goes once it is decoded
    for path, box in boxes.items():
        parts.append(await _file(path, box.pop(_URL)))
    if sum(len(part.content) for part in parts) <= LARGE:
        return written(parts)
    return await asyncio.to_thread(written, parts)


def _boxes(images: Any, mask: Any) -> dict[str, dict[str, Any]]:
    """What holds each picture, by where it is. Raises InvalidRequest."""
    if images is None:
        raise missing(IMAGES)
    if not isinstance(images, list) or not 0 < len(images) <= MAX_IMAGES:
        raise invalid(IMAGES, f"a list of 1 to {MAX_IMAGES} pictures is needed")
    found = {f"{IMAGES}[{number}]": image for number, image in enumerate(images)}
    if mask is not None:
        found[MASK] = mask
    return {path: _box(path, each) for path, each in found.items()}


def _box(path: str, found: Any) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise invalid(path, f"an object with {_URL!r} is needed")
    if found.get("file_id") is not None:
        why = f"no files are kept here; send {_URL!r} with a data URL or an address"
        raise invalid(f"{path}.file_id", why)
    return found


def _text(name: str, value: Any) -> str:
    """A field as forms have it. Raises InvalidRequest."""
    if name == _OF_FORMS or not _NAME.fullmatch(name):
        raise invalid(name, f"no such field in JSON; pictures are given as {IMAGES!r}")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise invalid(name, "a text, a number or a flag is needed")


async def _file(path: str, url: str) -> Part:
    """The upload of a picture in a data URL that was checked. Its type is the one in its head,
    whatever the client said."""
    content = await base64.decoded(url, url.index(",") + 1)
    kind, name = pictures.head(content).format, MASK if path == MASK else f"{_OF_FORMS}[]"
    return Part(name, content, f"{name.removesuffix('[]')}.{kind}", f"image/{kind}")
