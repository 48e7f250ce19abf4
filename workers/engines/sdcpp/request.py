"""Reads OpenAI's image requests and checks them before they reach a GPU.

sd-server (stable-diffusion.cpp, measured) checks next to nothing. "0x0" becomes 512x512 after 17 s.
An edit leaves out a picture that it cannot decode. ``<sd_cpp_extra_args>`` inside a prompt sets any
of its parameters, even paths of files.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from schemas import pictures
from schemas.multipart import Part
from schemas.pictures import NoPicture
from workers.engines.openai.refusal import Refusal
from workers.engines.openai.request_body import form_parts, json_object
from workers.engines.sdcpp import own_fields
from workers.engines.sdcpp.own_fields import number, wrong

MAX_PROMPT = 32_000
"""Characters; OpenAI has this limit for its own image models."""
MAX_IMAGES = 16
MULTIPLE = 8
"""The engine rounds other sizes up (measured: 65x70 became 72x72)."""
MAX_SEED = 2**32 - 1
"""What programs for pictures draw from; the engine itself takes 64 bits."""

_TAG = re.compile(r"<\s*(?:(/)\s*)?sd_cpp_extra_args\b[^<>]*>", re.IGNORECASE)
_ROUNDS = 5
"""Rounds of taking out nested tags; deeper nesting is an attack, and the rest is cut off."""
_SIZE = re.compile(r"([0-9]{1,5})x([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Limits:
    """What the engine says it can do; the defaults are sd-server's. If `samplers` or `schedulers`
    is empty, the names are unknown."""

    least: int = 64
    most: int = 4096
    batch: int = 8
    formats: tuple[str, ...] = ("png", "jpeg", "webp")
    samplers: tuple[str, ...] = ()
    schedulers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Drawing:
    """One job. `width` and `height` 0 mean the engine's default. `images`: the pictures to edit.
    `own`: further fields of the engine's own API."""

    prompt: str
    n: int = 1
    width: int = 0
    height: int = 0
    format: str = "png"
    compression: int = 100
    seed: int = 0
    images: tuple[bytes, ...] = ()
    mask: bytes = b""
    own: Mapping[str, Any] = field(default_factory=dict)


def strip_extra_args(prompt: str) -> str:
    """The prompt without the engine's own tag, whether it is nested, oddly spelled or left open.

    Text after an opening tag without an end is removed, too. This repeats, because removing a tag
    inside another tag's name makes a new tag.
    """
    for _ in range(_ROUNDS):
        if _TAG.search(prompt) is None:
            return prompt
        prompt = _outside(prompt)
    return prompt if (tag := _TAG.search(prompt)) is None else prompt[: tag.start()]


def _outside(prompt: str) -> str:
    """The text before, between and after the outermost tags."""
    kept, depth, at = [], 0, 0
    for tag in _TAG.finditer(prompt):
        if depth == 0:
            kept.append(prompt[at : tag.start()])
        depth = max(0, depth - 1) if tag[1] else depth + 1
        at = tag.end()
    if depth == 0:
        kept.append(prompt[at:])
    return "".join(kept)


def read_generation(body: bytes, limits: Limits) -> tuple[Drawing, Mapping[str, Any]]:
    """The job in a JSON body, and the body's fields. Raises Refusal."""
    fields = json_object(body)
    return _read(fields, limits), fields


def read_edit(body: bytes, content_type: str, limits: Limits) -> tuple[Drawing, Mapping[str, Any]]:
    """The job in a form with pictures, and the form's text fields. Raises Refusal."""
    parts = form_parts(body, content_type)
    texts = (part for part in parts if part.filename is None)
    fields = {p.name: _typed(p) for p in texts if p.name not in ("image", "image[]", "mask")}
    images = [part for part in parts if part.name in ("image", "image[]")]
    masks = [part for part in parts if part.name == "mask"]
    if not images:
        raise Refusal("Missing required parameter: 'image'.", param="image")
    if len(images) > MAX_IMAGES or len(masks) > 1:
        raise Refusal(f"At most {MAX_IMAGES} images and one mask.", param="image")
    seen = [_seen(part, "image", 3) for part in images]
    for part in masks:
        _seen(part, "mask", 1)
    drawing = _read(fields, limits)
    drawing = replace(
        drawing,
        images=tuple(part.content for part in images),
        mask=masks[0].content if masks else b"",
    )
    # Without a size, sd-server would draw in its own, and not in the picture's.
    if not drawing.width:
        drawing = replace(drawing, width=_up(seen[0].width), height=_up(seen[0].height))
        _within(drawing.width, drawing.height, limits, "The image is {}: give a size, as {}.")
    return drawing, fields


def _read(fields: Mapping[str, Any], limits: Limits) -> Drawing:
    width, height = _size(fields.get("size"), limits)
    seed = _whole(fields, "seed", -1, MAX_SEED, -1)
    wanted = fields.get("response_format") or "b64_json"
    if wanted not in ("b64_json", "url"):
        wrong("response_format", "must be 'b64_json' or 'url'")
    names = {"sample_method": limits.samplers, "scheduler": limits.schedulers}
    own = own_fields.read(fields, names)
    if "negative_prompt" in own:
        own["negative_prompt"] = strip_extra_args(own["negative_prompt"])
    return Drawing(
        prompt=_prompt(fields.get("prompt")),
        n=_whole(fields, "n", 1, limits.batch, 1),
        width=width,
        height=height,
        format=_format(fields.get("output_format"), limits),
        compression=_whole(fields, "output_compression", 0, 100, 100),
        # Without one, sd-server would draw the same picture each time.
        seed=secrets.randbelow(MAX_SEED) if seed < 0 else seed,
        own=own,
    )


def _prompt(found: Any) -> str:
    if found is None:
        raise Refusal("Missing required parameter: 'prompt'.", param="prompt")
    if not isinstance(found, str):
        wrong("prompt", "must be a string")
    if len(found) > MAX_PROMPT:
        wrong("prompt", f"must not be longer than {MAX_PROMPT} characters")
    prompt = strip_extra_args(found).strip()
    if not prompt:
        wrong("prompt", "must not be empty")
    return prompt


def _size(found: Any, limits: Limits) -> tuple[int, int]:
    if found in (None, "", "auto"):
        return 0, 0
    match = _SIZE.fullmatch(found) if isinstance(found, str) else None
    if match is None:
        wrong("size", "must be 'auto' or WIDTHxHEIGHT, like '512x512'")
    width, height = int(match[1]), int(match[2])
    _within(width, height, limits, "Invalid value for 'size': {} must be {}.")
    if width % MULTIPLE or height % MULTIPLE:
        wrong("size", f"width and height must be multiples of {MULTIPLE}")
    return width, height


def _within(width: int, height: int, limits: Limits, message: str) -> None:
    if not (limits.least <= min(width, height) and max(width, height) <= limits.most):
        allowed = f"{limits.least} to {limits.most} pixels wide and high"
        raise Refusal(message.format(f"{width}x{height}", allowed), param="size")


def _format(found: Any, limits: Limits) -> str:
    name = found.lower() if isinstance(found, str) else found or "png"
    if name not in limits.formats:
        wrong("output_format", f"must be one of {', '.join(limits.formats)}")
    return str(name)


def _whole(fields: Mapping[str, Any], name: str, least: int, most: int, default: int) -> int:
    found = fields.get(name)
    return default if found is None else int(number(least, most, whole=True)(name, found))


def _typed(part: Part) -> str | int:
    """The value of a form's text: a flag for `stream`, a number for `partial_images`."""
    text = part.content.decode("utf-8", "replace")
    if part.name == "stream":
        return text.lower() not in ("false", "0")
    return int(text) if part.name == "partial_images" and text.isdecimal() else text


def _seen(part: Part, name: str, channels: int) -> pictures.Picture:
    """Inspect a picture: sd-server needs three channels, and one of a mask. Raises Refusal."""
    try:
        found = pictures.inspect(part.content)
    except NoPicture as fault:
        raise Refusal(f"The {name} cannot be read: it {fault}.", param=name) from None
    if found.channels < channels:
        why = f"The {name} has {found.channels} colour channels; it needs {channels} (RGB)."
        raise Refusal(why, param=name)
    return found


def _up(pixels: int) -> int:
    return -(-pixels // MULTIPLE) * MULTIPLE
