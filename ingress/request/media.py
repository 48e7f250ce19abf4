"""Checks pictures and recordings in requests, and fetches those that are given by address.

Engines get data URLs alone. Some engines would fetch addresses themselves: llama-server does, for
pictures and videos. And few check what they decode: llama-server hands what is no picture to
ffprobe, which opens further addresses if it finds a playlist.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request

from ingress.http.held import Held, held_of
from ingress.http.protocol import CLIENT_GONE
from ingress.models.catalog import Catalog
from ingress.request import base64, parts
from ingress.request.fetch import Fetched, Fetcher, FetchError
from ingress.request.parts import AUDIO, CONTENT, VISION, Part
from schemas import pictures, settings
from schemas.api import piecewise_write, prompts
from schemas.api.endpoints import COMPLETIONS, EMBEDDINGS, OWN_COMPLETION, Endpoint
from schemas.api.shape import invalid
from schemas.errors import BodyTooLarge, ClientGone, InvalidRequest
from schemas.pictures import NoPicture

MAX_URLS = 32
"""Addresses in one request."""
_SILENT = frozenset({"openai"})
"""Kinds of engines that do not tell what their models can see or hear, and refuse by themselves."""
_OF_PROMPTS = frozenset({COMPLETIONS.word, OWN_COMPLETION.word, EMBEDDINGS.word})
_OWN_FORMS = frozenset({"llamacpp"})
"""Kinds of engines that take llama-server's own forms of prompts."""
_HEAD = 4096
"""Letters in which the head of a data URL ends."""
_BARE = ("iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR")
"""How base64 of a PNG, JPEG, GIF and WebP begins. llama-server takes it without a data URL."""
_DOES = {"vision": "see pictures", "audio": "hear recordings"}

T = TypeVar("T")


class Media:
    def __init__(self, config: settings.Ingress, catalog: Catalog, fetcher: Fetcher) -> None:
        self._limit = config.fetch_size or config.max_body
        self._max_body = config.max_body
        self._max_pixels = config.max_pixels
        self._catalog = catalog
        self._fetcher = fetcher

    async def close(self) -> None:
        await self._fetcher.close()

    async def resolve(
        self,
        request: Request,
        endpoint: Endpoint,
        document: dict[str, Any],
        body: bytes,
        model: str,
    ) -> bytes:
        """The body that engines may get, for a request with more than text in it. It is `body`
        itself if nothing had to be changed.

        `document`: `body` parsed and checked; fetched pictures are put into it. `model`: the model
        that is served; "" for providers, which do not tell what their models can see or hear.
        Raises InvalidRequest (`param` says which part), BodyTooLarge, ClientGone.
        """
        found = parts.find(endpoint, document)
        if endpoint.word in _OF_PROMPTS:
            self._need_forms(endpoint, document, model)
        self._need_senses(found, model, endpoint)
        changed = await self.settle(request, found, len(body))
        return await piecewise_write.dump(document) if changed else body

    async def settle(self, request: Request, found: list[Part], size: int) -> bool:
        """Check the parts, and fetch those that are given by address. Returns whether one was
        written anew. `size`: bytes of the request. Raises as `resolve`."""
        remote = [part for part in found if _remote(part.url)]
        if len(remote) > MAX_URLS:
            why = f"There are more than {MAX_URLS} addresses in the request; send data URLs."
            raise InvalidRequest(why, param=remote[MAX_URLS].path)
        for part in found:
            if not _remote(part.url):
                await self._check(part)
        if remote:
            room, held = self._max_body - size, held_of(request)
            await _unless_gone(request, self._fetch_all(remote, room, held))
        return bool(remote) or any(part.odd for part in found)

    def _need_forms(self, endpoint: Endpoint, document: dict[str, Any], model: str) -> None:
        """Raises InvalidRequest for a prompt in a form that not every live engine of the model
        takes."""
        kinds = {entry.kind for entry in self._catalog.serving(model)} if model else {"provider"}
        others = ", ".join(sorted(kinds - _OWN_FORMS))
        key = endpoint.api.prompt if document.get(endpoint.api.prompt) is not None else CONTENT
        where = key if key == CONTENT else prompts.own_form(document[key], key)
        if others and where:
            why = f"only llama-server takes it in this form, and this model is served by: {others}"
            raise invalid(where, why)

    def _need_senses(self, found: list[Part], model: str, endpoint: Endpoint) -> None:
        """Raises InvalidRequest for the first part that no live engine of the model can take."""
        entries = self._catalog.serving(model)
        if not entries or any(entry.kind in _SILENT for entry in entries):
            return
        can = {sense for entry in entries for sense in entry.modalities}
        for part in found:
            if part.modality not in can:
                able = self._catalog.able(endpoint.word, part.modality)
                others = f"Models that can: {', '.join(able)}." if able else "No model here can."
                does = _DOES[part.modality]
                why = f"The model {model!r} cannot {does}, and {part.path!r} is one. {others}"
                raise InvalidRequest(why, param=part.path)

    async def _check(self, part: Part) -> None:
        """Write an odd part anew: bare base64 becomes a data URL, and base64 gets the letters and
        the padding that every engine reads, as some stop at a letter that they do not know. Raises
        InvalidRequest unless the part holds what it says, and not too much."""
        text, at = _base64_of(part)
        if (len(text) - at) // 4 * 3 > self._limit:  # before so much is decoded
            raise _refused(part, f"has more than {self._limit} bytes, the limit here.")
        try:
            content = await base64.decoded(text, at)
        except ValueError:
            text, at, part.odd = await base64.plain(text, at), 0, True
            try:
                content = await base64.decoded(text)
            except ValueError:
                raise _refused(part, "is not valid base64.") from None
        kind = ""
        if part.modality == AUDIO:
            _check_sound(part, content)
        else:
            kind = self._check_picture(part, content)
        if part.odd:
            part.put(f"image/{kind}", await base64.rest(text, at))

    def _check_picture(self, part: Part, content: bytes) -> str:
        """The picture's format. Raises InvalidRequest."""
        try:
            head = pictures.head(content)
        except NoPicture as fault:
            raise _refused(part, f"{fault}.") from None
        if head.pixels > self._max_pixels:
            size = f"{head.width}x{head.height}"
            raise _refused(
                part, f"has {size} pixels; {self._max_pixels} in all are the limit here."
            )
        return head.format

    async def _fetch_all(self, remote: list[Part], room: int, held: Held) -> None:
        left = room

        async def one(part: Part) -> None:
            nonlocal left
            try:
                fetched = await self._fetcher.get(part.url, "image/", held)
            except FetchError as fault:
                raise InvalidRequest(f"The URL in {part.path!r} {fault}", param=part.path) from None
            left -= len(fetched.content) * 4 // 3  # its size in base64
            if left < 0:
                why = f"With its pictures the request is larger than {self._max_body} bytes."
                raise BodyTooLarge(why, param=part.path)
            await self._lay(part, fetched)

        try:
            async with asyncio.TaskGroup() as group:
                for part in remote:
                    group.create_task(one(part))
        except ExceptionGroup as several:
            raise several.exceptions[0] from None  # the group cancelled the other fetches

    async def _lay(self, part: Part, fetched: Fetched) -> None:
        """Put a fetched picture into its part. The type is the one in the picture's head, whatever
        the server said."""
        kind = self._check_picture(part, fetched.content)
        part.put(f"image/{kind}", await base64.encoded(fetched.content))


def _remote(url: str) -> bool:
    return url[:5].lower() != "data:" and "://" in url[:16]


def _base64_of(part: Part) -> tuple[str, int]:
    """The text with the base64 of ``data:image/png;base64,…``, and where that begins; at 0 if it is
    bare. Raises InvalidRequest."""
    said = part.data or part.url
    if (part.data and said[:5].lower() != "data:") or said.startswith(_BARE):
        return said, 0
    head, comma, _ = said[:_HEAD].partition(",")
    first, *options = (word.strip() for word in head.lower().split(";"))
    if not comma or not first.startswith("data:") or (options or [""])[-1] != "base64":
        how = "has to be a data URL ('data:image/png;base64,…') or an http(s) address."
        raise _refused(part, how)
    wanted = "image/" if part.modality == VISION else "audio/"
    if not first.startswith(f"data:{wanted}"):
        raise _refused(part, f"says that it is {first[5:64]!r}, not {wanted}*.")
    part.odd = part.odd or bool(part.data)  # a data URL, where only base64 belongs
    return said, len(head) + 1


def _check_sound(part: Part, content: bytes) -> None:
    """Raises InvalidRequest unless the recording begins as its format does."""
    if parts.sound_format(content) != part.format:
        raise _refused(part, f"is no {part.format}, though it is said to be.")


def _refused(part: Part, why: str) -> InvalidRequest:
    what = "recording" if part.modality == AUDIO else "picture"
    return InvalidRequest(f"The {what} in {part.path!r} {why}", param=part.path)


async def _unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`. If the client leaves, `work` is cancelled; raises ClientGone then."""
    state = request.scope["state"]
    task = asyncio.ensure_future(work)
    left = False

    def gone() -> None:
        nonlocal left
        left = True
        task.cancel()

    state[CLIENT_GONE] = gone
    try:
        found = await task
    except asyncio.CancelledError:
        if not left:
            raise
    finally:
        state.pop(CLIENT_GONE, None)
    if left:
        raise ClientGone("the client left while its pictures were fetched")
    return found
