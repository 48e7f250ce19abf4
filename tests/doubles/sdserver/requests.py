"""What sd-server makes of a request: the checks there are, and what it passes over."""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as NoBase64
from typing import Any

import orjson

from schemas.multipart import Part
from tests.doubles.sdserver.faults import Refused, read_json, stoi, taken, value
from tests.doubles.sdserver.pictures import Draw, readable
from tests.doubles.sdserver.record import CAPABILITIES

FORMATS = ("png", "jpeg", "webp")
BATCH = 8
_TAG = re.compile(r"<sd_cpp_extra_args>(.*?)</sd_cpp_extra_args>")


def generation(raw: bytes) -> Draw:
    """Of ``/v1/images/generations``. Raises Refused."""
    asked = read_json(raw)
    ask = Draw(prompt=value(asked, "prompt", ""), n=value(asked, "n", 1))
    size = value(asked, "size", "")
    ask.format = value(asked, "output_format", "png")
    value(asked, "output_compression", 100)
    ask.width, ask.height = _default()
    _resize(ask, size)
    if not ask.prompt:
        raise Refused("prompt required")
    return _finished(ask, FORMATS)


def edit(parts: list[Part]) -> Draw:
    """Of ``/v1/images/edits``. Raises Refused."""
    form = {part.name: part.content.decode() for part in parts if part.filename is None}
    if not form.get("prompt"):
        raise Refused("prompt required")
    files = [part.content for part in parts if part.name == "image[]" and part.filename]
    files = files or [p.content for p in parts if p.name == "image" and p.filename][:1]
    if not files:
        raise Refused("at least one image[] required")
    seen = [picture for picture in map(readable, files) if picture is not None]
    ask = Draw(form["prompt"], form.get("output_format", "png"), images=len(seen))
    ask.n = stoi(form.get("n", "1")) or 1
    ask.mask = any(part.name == "mask" for part in parts)
    _resize(ask, form.get("size", ""))
    width, height = seen[0] if seen else (0, 0)
    ask.width, ask.height = max(ask.width, 0) or width, max(ask.height, 0) or height
    return _finished(ask, FORMATS[:2])


def native(raw: bytes) -> Draw:
    """Of ``/sdcpp/v1/img_gen``: fields of a wrong type are passed over. Raises Refused."""
    asked = read_json(raw)
    ask = Draw(prompt=taken(asked, "prompt", str, ""))
    ask.width, ask.height = _default()
    if not _apply(ask, asked) or ask.loras:  # there are none to be found
        raise Refused("invalid generation parameters")
    ask.format = value(asked, "output_format", "png")
    value(asked, "output_compression", 100)
    _check_format(ask, FORMATS)
    ask.n = taken(asked, "batch_count", int, 1)
    return _clamped(ask)


def _default() -> tuple[int, int]:
    default = CAPABILITIES["defaults"]
    return default["width"], default["height"]


def _resize(ask: Draw, size: str) -> None:
    """Up to what cannot be understood."""
    before, x, behind = size.partition("x")
    if not x or (width := stoi(before)) is None:
        return
    ask.width = width
    ask.height = ask.height if (height := stoi(behind)) is None else height


def _finished(ask: Draw, formats: tuple[str, ...]) -> Draw:
    """With what the tag in the prompt says. Raises Refused."""
    _check_format(ask, formats)
    if tag := _TAG.search(ask.prompt):
        ask.prompt = _TAG.sub("", ask.prompt)
        try:
            own = orjson.loads(tag[1])
        except orjson.JSONDecodeError:
            own = None
        if own is None or not _apply(ask, own):
            raise Refused("invalid sd_cpp_extra_args")
        ask.n = taken(own, "batch_count", int, ask.n)
    return _clamped(ask)


def _check_format(ask: Draw, formats: tuple[str, ...]) -> None:
    ask.format = ask.format.lower()
    if ask.format not in formats:
        raise Refused(f"invalid output_format, must be one of [{', '.join(formats)}]")


def _clamped(ask: Draw) -> Draw:
    ask.n = min(max(ask.n, 1), BATCH)
    ask.steps = min(max(ask.steps, 1), 100)
    return ask


def _apply(ask: Draw, own: Any) -> bool:
    """Its own fields, of the tag or of its own API; whether they will do."""
    if not isinstance(own, dict):
        return True
    ask.own = own
    ask.seed = taken(own, "seed", int, ask.seed)
    ask.width = taken(own, "width", int, ask.width)
    ask.height = taken(own, "height", int, ask.height)
    ask.steps = taken(own.get("sample_params"), "sample_steps", int, ask.steps)
    ask.metadata = own.get("embed_image_metadata") is not False
    loras = own.get("lora", [])
    images = own.get("ref_images") or []
    if not _paths(loras) or not isinstance(images, list):
        return False
    ask.loras = [lora["path"] for lora in loras]
    single = [own[name] for name in ("init_image", "mask_image") if own.get(name) is not None]
    ask.images = ask.images or len(images)
    ask.mask = ask.mask or own.get("mask_image") is not None
    return all(_is_picture(image) for image in (*images, *single))


def _paths(loras: Any) -> bool:
    return isinstance(loras, list) and all(
        isinstance(lora, dict) and value(lora, "path", "") for lora in loras
    )


def _is_picture(image: Any) -> bool:
    try:
        return isinstance(image, str) and len(b64decode(image, validate=True)) > 8
    except NoBase64:
        return False
