"""The processes of one ``headrace ingress --processes N``: what each asks of the others.

They listen on one port, so whoever asks for a page gets one of them at random. Each has a socket of
its own in a folder that only this user may look into, where the others ask for what it alone has:
its metrics, and the pictures that it keeps. The parent sees by the socket that a process listens.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

from prometheus_client import generate_latest

from ingress.http.pages import merged
from ingress.request.picture_store import Kept, PictureStore
from schemas.settings import Ingress, Settings, SettingsError

SIGNED_BY = "signed-by"
"""The file beside the sockets with what pictures' addresses are signed by."""
_METRICS, _PICTURE = b"metrics", b"picture"
_LONGEST = 256
"""Bytes of a question."""
_PATIENCE = 2.0
"""Seconds for an answer."""
_DIVIDED = {
    "max_connections": 16,
    "body_memory": 2**20,
    "body_files": 0,
    "failed_keys": 1,
    "picture_store": 2**20,
}
"""Settings that hold for all processes together, and the least that one has of each."""


def part(edge: Ingress) -> Ingress:
    """What of the settings one process has."""
    each = {
        name: max(least, -(-getattr(edge, name) // edge.processes))
        for name, least in _DIVIDED.items()
    }
    return edge.model_copy(update=each)


class Siblings:
    """`path`: the socket of this process, which is called by its number."""

    def __init__(self, path: Path, config: Settings) -> None:
        """Raises SettingsError if it is not what the parent of several has made."""
        self.number = path.stem
        self.group = path.parent.name
        """The same for all of them, and no other ingress anywhere has it."""
        try:
            self.secret = (path.parent / SIGNED_BY).read_bytes()
        except (OSError, ValueError) as fault:
            why = getattr(fault, "strerror", "") or fault
            raise SettingsError(
                f"--of {path}: {SIGNED_BY} beside it: {why}. Leave --of out: 'headrace ingress "
                "--processes N' starts N processes with it"
            ) from None
        self.of = config.ingress.processes
        self._path = path
        self._pictures: PictureStore | None = None

    async def open(self, pictures: PictureStore) -> asyncio.Server:
        """Answer the others, until what this returns is closed."""
        self._pictures = pictures
        self._path.unlink(missing_ok=True)  # of the one before, which may have been killed
        return await asyncio.start_unix_server(self._answer, self._path, limit=_LONGEST)

    async def metrics(self) -> bytes:
        """The page of all that answer."""
        numbers = [str(number + 1) for number in range(self.of)]
        pages = await asyncio.gather(*map(self._page, numbers))
        return merged({number: page for number, page in zip(numbers, pages, strict=True) if page})

    async def _page(self, number: str) -> bytes:
        if number == self.number:
            return generate_latest()
        return await self._ask(number, _METRICS)

    async def picture(self, name: str) -> Kept | None:
        """One that another process may keep, as its name says."""
        number = name.partition("-")[0]
        if number == self.number or not number.isdecimal() or int(number) > self.of:
            return None
        said = await self._ask(number, b"%b %b" % (_PICTURE, name.encode("utf-8", "replace")))
        head, _, content = said.partition(b"\n")
        kind, _, until = head.decode().partition(" ")
        return Kept(content, kind, float(until)) if until else None

    async def _ask(self, number: str, question: bytes) -> bytes:
        """Nothing if it does not answer: it may be about to start."""
        path = self._path.with_name(f"{number}{self._path.suffix}")
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                reader, writer = await asyncio.open_unix_connection(path)
                with contextlib.closing(writer):
                    writer.write(question + b"\n")
                    return await reader.read()
        return b""

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError, TimeoutError), contextlib.closing(writer):
            async with asyncio.timeout(_PATIENCE):
                word, _, rest = (await reader.readline()).strip().partition(b" ")
                answers: dict[bytes, Callable[[bytes], bytes]] = {
                    _METRICS: lambda _: generate_latest(),
                    _PICTURE: self._kept,
                }
                if (answer := answers.get(word)) is not None:
                    writer.write(answer(rest))
                    await writer.drain()

    def _kept(self, name: bytes) -> bytes:
        kept = self._pictures and self._pictures.find(name.decode())
        return (
            b"%b %f\n%b" % (kept.content_type.encode(), kept.until, kept.content) if kept else b""
        )
