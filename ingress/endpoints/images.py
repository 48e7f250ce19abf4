"""``POST /v1/images/generations`` and ``/v1/images/edits``, and where their pictures are seen.

Engines give pictures as base64. A client that wants URLs gets those of this ingress, which keeps
the pictures for a while (`ingress.request.picture_store`).
"""

from __future__ import annotations

import asyncio
import binascii
import re
from asyncio import to_thread
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from ingress.context import Context, context
from ingress.endpoints.inference import Caller, admit, answer, form_of, read_json
from ingress.http.body import is_json
from ingress.http.held import held_of
from ingress.request import base64, edits
from ingress.request.edits import MAX_IMAGES
from ingress.request.forms import Form, checked
from schemas import multipart, pictures
from schemas.api import media, piecewise, piecewise_write
from schemas.api.endpoints import EDITS, IMAGES
from schemas.api.shape import invalid, missing
from schemas.errors import EngineFailed, InvalidRequest, NotFound, UnsupportedEndpoint
from schemas.pictures import NoPicture

URL_BY_DEFAULT = "dall-e"
"""The beginning of names of OpenAI's models that answer with URLs unless asked otherwise."""
_FORMAT, _BASE64 = "response_format", "b64_json"
# A Host header becomes a part of addresses in answers, so it must be a host and nothing else.
_HOST = re.compile(r"[A-Za-z0-9._-]+(:[0-9]+)?|\[[0-9A-Fa-f:.]+\](:[0-9]+)?")


async def generate(request: Request) -> Response:
    caller = admit(request)
    asked, body = await read_json(caller, IMAGES.shape)
    if not _by_url(asked):
        return await answer(caller, IMAGES, asked, body)
    held_of(request).kept = True
    asked = {**asked, _FORMAT: _BASE64}
    body = await piecewise_write.dump(asked)
    return await _stored(caller, await answer(caller, IMAGES, asked, body))


async def edit(request: Request) -> Response:
    caller = admit(request)
    asked, form = await (_by_json if is_json(request) else _by_form)(caller)
    _check_pictures(caller.here, form)
    held_of(request).kept = True
    if not _by_url(asked):
        return await answer(caller, EDITS, asked, form.body, form.content_type)
    asked = {**asked, _FORMAT: _BASE64}
    body, content_type = await to_thread(multipart.put, form.parts, _FORMAT, _BASE64)
    return await _stored(caller, await answer(caller, EDITS, asked, body, content_type))


async def _by_form(caller: Caller) -> tuple[dict[str, Any], Form]:
    return await checked(await form_of(caller), media.PICTURES, EDITS.shape)


async def _by_json(caller: Caller) -> tuple[dict[str, Any], Form]:
    asked, body = await read_json(caller, EDITS.shape)
    return asked, await edits.as_form(caller.here.media, caller.request, asked, len(body))


async def vary(request: Request) -> Response:
    """OpenAI's variations are refused: no engine here makes them."""
    admit(request)
    why = f"No engine makes variations. Send the picture to {EDITS.path}, with a prompt."
    raise UnsupportedEndpoint(why)


async def show(request: Request) -> Response:
    """A picture at its signed address. No key is asked for. Raises Forbidden, NotFound."""
    here, query = context(request), request.query_params
    store, name = here.pictures, request.path_params["name"]
    kept = store.get(name, query.get("expires", ""), query.get("signature", ""))
    if kept is None and here.siblings is not None:
        kept = await here.siblings.picture(name)
    if kept is None:
        raise NotFound("The picture is no longer kept; have it made again.")
    headers = {
        "content-type": kept.content_type,
        "cache-control": f"private, max-age={store.left(kept)}, immutable",
        # A browser must show the content as a picture, and never run it as a page.
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; sandbox",
        "x-request-id": request.state.id,
    }
    return Response(kept.content, 200, headers)


def _by_url(asked: dict[str, Any]) -> bool:
    wanted = asked.get(_FORMAT)
    usual = (asked.get("model") or "").startswith(URL_BY_DEFAULT) and not asked.get("stream")
    return wanted == "url" or (wanted is None and usual)


def _check_pictures(here: Context, form: Form) -> None:
    """Raises InvalidRequest unless the uploads look like pictures, and none is too large."""
    images, masks = form.files("image", "image[]"), form.files("mask")
    if not images:
        raise missing("image")
    if len(images) > MAX_IMAGES:
        raise invalid("image", f"there are more than {MAX_IMAGES}")
    if len(masks) > 1:
        raise InvalidRequest("'mask' is given twice.", param="mask")
    for part in (*images, *masks):
        name = part.name.removesuffix("[]")
        try:
            head = pictures.head(part.content)
        except NoPicture as fault:
            raise invalid(name, f"the file {fault}") from None
        most = here.config.ingress.max_pixels
        if head.pixels > most:
            why = f"{head.width}x{head.height} pixels; {most} in all are the limit here"
            raise invalid(name, f"the picture has {why}")


async def _stored(caller: Caller, response: Response) -> Response:
    """The answer with addresses in place of pictures. An error stays as it is."""
    if response.status_code != 200:
        return response
    try:
        document, found = await piecewise.load(bytes(response.body)), []
        for item in document["data"]:
            found.append(await _decoded(item["b64_json"]))
    except (ValueError, LookupError, TypeError):
        why = "The engine's answer has something that is no picture: ask for b64_json."
        raise EngineFailed(why) from None
    store = caller.here.pictures
    if sum(len(content) for content, _ in found) > store.limit:
        why = f"The pictures have more than {store.limit} bytes, and so no URLs: ask for b64_json."
        raise EngineFailed(why)
    base = _base(caller)
    for item, (content, content_type) in zip(document["data"], found, strict=True):
        del item["b64_json"]
        item["url"] = base + store.put(content, content_type)
    del response.headers["content-length"]
    return Response(orjson.dumps(document), 200, dict(response.headers))


async def _decoded(text: str) -> tuple[bytes, str]:
    """(picture, content type). Raises ValueError."""
    try:
        content = await base64.decoded(text)
    except ValueError:  # it may have line breaks
        content = await asyncio.to_thread(binascii.a2b_base64, text)
    return content, f"image/{pictures.head(content).format}"


def _base(caller: Caller) -> str:
    """The address at which the client finds this ingress: the configured one, or else the one that
    the client used."""
    public = caller.here.config.ingress.public_url
    if public:
        return public.rstrip("/")
    request = caller.request
    host = request.headers.get("host", "")
    if _HOST.fullmatch(host) is None:
        address, port = request.scope.get("server") or ("127.0.0.1", 80)
        host = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    return f"{request.url.scheme}://{host}"
