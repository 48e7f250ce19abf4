"""Writes a drawing for sd-server: for its own API, and for its OpenAI pages."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import orjson

from schemas.multipart import Part
from workers.engines.sdcpp.request import Drawing, Limits


def limits(told: Mapping[str, Any]) -> Limits:
    """The limits in ``/sdcpp/v1/capabilities``. Raises TypeError or ValueError if malformed."""
    found = told.get("limits") or {}
    usual = Limits()
    # One bound for both sides of a picture: the narrower of the two.
    return Limits(
        least=max(int(found.get("min_width", usual.least)), int(found.get("min_height", 1))),
        most=min(int(found.get("max_width", usual.most)), int(found.get("max_height", 2**16))),
        batch=int(found.get("max_batch_count", usual.batch)),
        formats=_names(told, "output_formats") or usual.formats,
        samplers=_names(told, "samplers"),
        schedulers=_names(told, "schedulers"),
    )


def _names(told: Mapping[str, Any], field: str) -> tuple[str, ...]:
    return tuple(str(name) for name in told.get(field) or ())


def _own(drawing: Drawing) -> dict[str, Any]:
    """Fields that only sd-server has, for its own API or for the tag in a prompt."""
    # Without the last one, sd-server writes the prompt and names of files into the picture.
    return {**drawing.own, "seed": drawing.seed, "embed_image_metadata": False}


def native(drawing: Drawing) -> dict[str, Any]:
    """The body for ``/sdcpp/v1/img_gen``. As in the server's own edits, drawing starts from the
    first image, and all images are references."""
    found = {
        "prompt": drawing.prompt,
        "batch_count": drawing.n,
        "output_format": drawing.format,
        "output_compression": drawing.compression,
        **_own(drawing),
    }
    if drawing.width:
        found |= {"width": drawing.width, "height": drawing.height}
    if drawing.images:
        images = [b64encode(image).decode() for image in drawing.images]
        found |= {"ref_images": images, "init_image": images[0]}
    if drawing.mask:
        found["mask_image"] = b64encode(drawing.mask).decode()
    return found


def plain(drawing: Drawing) -> dict[str, Any]:
    """The body for ``/v1/images/generations``; a tag in the prompt carries the own fields."""
    own = orjson.dumps(_own(drawing)).decode()
    found: dict[str, Any] = {
        "prompt": f"{drawing.prompt}<sd_cpp_extra_args>{own}</sd_cpp_extra_args>",
        "n": drawing.n,
        "output_format": drawing.format,
        "output_compression": drawing.compression,
    }
    if drawing.width:
        found["size"] = f"{drawing.width}x{drawing.height}"
    return found


def form(drawing: Drawing) -> list[Part]:
    """The parts for ``/v1/images/edits``."""
    texts = [Part(name, str(value).encode()) for name, value in plain(drawing).items()]
    images = [Part("image[]", image, "image") for image in drawing.images]
    masks = [Part("mask", drawing.mask, "mask")] if drawing.mask else []
    return texts + images + masks
