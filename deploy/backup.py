"""``headrace backup`` and ``headrace restore``: books, keys, nodes and settings in one file, which
is whole or refused, and as secret as the keys in it.

The file: a line that says what it is; of each stream, and of each file that is kept, a line of JSON
and its bytes; and a line with the SHA-256 of all before.
"""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import orjson

from deploy import credits, home
from deploy import keys as stored
from deploy.configure import CommandFailed, Where
from deploy.nats import certificates
from deploy.nats.credentials import write_private
from deploy.nodes.store import NodeStore
from deploy.survey import connected
from fallback.credits import witness
from schemas import subjects, topology
from schemas.bus import Bus, BusError, NotFound
from schemas.jetstream import snapshots, streams
from schemas.settings import Nats

_HEAD = b"headrace backup 4\n"
_HEADS = b"headrace backup 1\n", b"headrace backup 2\n", b"headrace backup 3\n", _HEAD
"""Version 1 had no files, version 2 no keys of the store, and version 3 no nodes."""
_SUM = b"sha256 "
_TAIL = len(_SUM) + 64 + 1  # hex digits and the end of the line


_NO_PLACE = {"settings": "no --config says where they belong"}
_NO_BROKER = "no broker of this data directory runs"


class Refused(CommandFailed):
    """Nothing was restored; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class _Copy:
    """One stream in a file: what the broker said of it, and where its bytes are."""

    stream: str
    about: dict[str, Any]
    at: int
    size: int

    def pieces(self, file: IO[bytes]) -> Iterator[bytes]:
        file.seek(self.at)
        for start in range(0, self.size, snapshots.PIECE):
            yield file.read(min(snapshots.PIECE, self.size - start))


@dataclass(frozen=True, slots=True)
class Contents:
    """What a backup has: copies of streams, files by what they are, and of the store of keys and of
    the nodes the last records, by subjects."""

    streams: list[_Copy]
    files: dict[str, str]
    keys: dict[str, bytes]
    nodes: dict[str, bytes]


NOT_KEPT = (
    "not in it: the broker's logins (a new one makes its own: give them to workers elsewhere), "
    "keys of providers in files and in the environment"
)


def _files(where: Where) -> dict[str, Path]:
    """Where the files are that are kept. Nodes that joined trust the CA alone."""
    store = home.broker_store(where.data)
    found = {"key": where.data / home.KEY_FILE}
    if home.login(where.data, "admin") is not None:
        found |= {"CA": store / certificates.CA, "key of the CA": store / certificates.CA_KEY}
    return found | ({"settings": where.config} if where.config is not None else {})


def _books(where: Where) -> list[tuple[str, Nats]]:
    """The streams that nothing else could replace, with the logins of their accounts."""
    if where.config is not None and not where.config.exists():  # it comes with the copy
        where = replace(where, config=None)
    found = credits.accounts(where)
    return [(subjects.CREDITS_STREAM, found.login), (subjects.USAGE_STREAM, found.fabric)]


async def backup(where: Where, path: Path) -> None:
    """Write `path` anew, whole or not at all. Raises BusError, OSError, CommandFailed."""
    _need_place(path)
    books = _books(where)
    # In the same directory, because only there a rename is one step.
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        try:
            file.write(_HEAD)
            for stream, login in books:
                async with connected(login, "headrace-backup") as bus:
                    await _copy(bus, stream, file)
            await _copy_keys(where, file)
            await _copy_nodes(books[-1][1], file)
            for name, place in _files(where).items():
                _keep(name, place, file)
            print(NOT_KEPT)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.write(_SUM + digest.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, path)
        except BaseException:  # Ctrl-C, too, must not leave half a file
            os.unlink(file.name)
            raise


def _need_place(path: Path) -> None:
    """Raises CommandFailed where no file can be: before all is copied."""
    if path.is_dir():
        raise CommandFailed(f"{path} is a folder: name the file in it")
    if not path.parent.is_dir():
        raise CommandFailed(f"{path}: there is no folder {path.parent}")


async def _copy(bus: Bus, stream: str, file: IO[bytes]) -> None:
    copy = snapshots.Snapshot(bus, stream)
    with tempfile.TemporaryFile() as data:  # its size stands before the bytes
        try:
            async for piece in copy.pieces():
                data.write(piece)
        except NotFound:
            print(f"{stream}: there is none for this login, so it is left out")
            return
        said = {"stream": stream, "size": data.tell(), "about": copy.about}
        file.write(orjson.dumps(said) + b"\n")
        data.seek(0)
        while piece := data.read(snapshots.PIECE):
            file.write(piece)
    print(f"{stream}: {copy.about['state']['messages']} messages")


async def _copy_keys(where: Where, file: IO[bytes]) -> None:
    """Not as a stream: the login may neither copy nor delete one, and ingresses follow it."""
    try:
        async with stored.opened(where, founds=False) as store:
            found = await store.everything()
    except CommandFailed as fault:
        print(f"{subjects.KEYS_STREAM}: left out: {fault}")
        return
    _write_rows("keys", subjects.KEYS_STREAM, found, file)


async def _copy_nodes(login: Nats, file: IO[bytes]) -> None:
    """Without those who are invited, who can be invited anew."""
    async with connected(login, "headrace-backup") as bus:
        try:
            found = await NodeStore(bus).everything()
        except BusError as fault:
            print(f"{subjects.NODES_STREAM}: left out: {fault}")
            return
    _write_rows("nodes", subjects.NODES_STREAM, found, file)


def _write_rows(what: str, stream: str, found: dict[str, bytes], file: IO[bytes]) -> None:
    rows = {subject: base64.b64encode(data).decode() for subject, data in found.items()}
    data = orjson.dumps(rows)
    file.write(orjson.dumps({what: len(rows), "size": len(data)}) + b"\n" + data)
    print(f"{stream}: {len(rows)} messages")


def _keep(name: str, place: Path, file: IO[bytes]) -> None:
    if not place.is_file():
        print(f"{name}: there is no {place}, so it is left out")
        return
    data = place.read_bytes()
    file.write(orjson.dumps({"file": name, "size": len(data)}) + b"\n" + data)
    print(f"{name}: {place}")


async def restore(where: Where, path: Path, overwrite: bool) -> None:
    """Put the streams of `path` into the broker, and the files in their places. All is looked at
    before anything is changed. Raises Refused, BusError, OSError."""
    logins, found, places = dict(_books(where)), read(path), _files(where)
    with path.open("rb") as file:
        for name, text in found.files.items():
            _check_file(name, places.get(name), text, overwrite)
        for copy in found.streams:
            async with connected(logins[copy.stream], "headrace-restore") as bus:
                await _check(bus, copy.stream, overwrite)
        if found.keys:
            await _check_keys(where, overwrite)
        if found.nodes:
            await _check_nodes(logins[subjects.USAGE_STREAM], overwrite)
        for copy in found.streams:
            login = logins[copy.stream]
            # The copy may come from a cluster of another size.
            copy.about["config"]["num_replicas"] = login.replicas
            async with connected(login, "headrace-restore") as bus:
                await snapshots.restore(bus, copy.stream, copy.about, copy.pieces(file))
                # No copy has the mark, and one that is ahead would make the journal look cut.
                if copy.stream == subjects.CREDITS_STREAM:
                    await streams.ensure(bus, [topology.credits_mark(login.replicas)])
                    await witness.accept(bus)
            print(f"{copy.stream}: {copy.about['state']['messages']} messages")
    if found.keys:
        await _restore_keys(where, found.keys)
    if found.nodes:
        await _restore_nodes(logins[subjects.USAGE_STREAM], found.nodes)
    for name, text in found.files.items():
        if name not in places:
            print(f"{name}: left in the copy, as {_NO_PLACE.get(name, _NO_BROKER)}")
            continue
        write_private(places[name], text)
        print(f"{name}: {places[name]}")


async def _check_keys(where: Where, overwrite: bool) -> None:
    """Raises Refused if there are keys that must stay."""
    async with stored.opened(where) as store:
        live = sum(record.revoked is None for record in await store.keys())
    if live and not overwrite:
        name = subjects.KEYS_STREAM
        raise Refused(f"{name} has {live} keys: name --overwrite to lose them for the copy")


async def _restore_keys(where: Where, found: dict[str, bytes]) -> None:
    """Ingresses may run meanwhile: they follow."""
    async with stored.opened(where) as store:
        await store.replace(found)
    print(f"{subjects.KEYS_STREAM}: {len(found)} messages")


async def _check_nodes(login: Nats, overwrite: bool) -> None:
    """Raises Refused if there are nodes that must stay."""
    async with connected(login, "headrace-restore") as bus:
        store = NodeStore(bus, login.replicas)
        await store.open()
        has = len(await store.everything())
    if has and not overwrite:
        name = subjects.NODES_STREAM
        raise Refused(f"{name} has {has} nodes: name --overwrite to lose them for the copy")


async def _restore_nodes(login: Nats, found: dict[str, bytes]) -> None:
    """A hub may run meanwhile: it follows."""
    async with connected(login, "headrace-restore") as bus:
        await NodeStore(bus, login.replicas).replace(found)
    print(f"{subjects.NODES_STREAM}: {len(found)} messages")


def _check_file(name: str, place: Path | None, text: str, overwrite: bool) -> None:
    """Raises Refused if the file that is there must stay."""
    if overwrite or place is None or not place.is_file() or place.read_text() == text:
        return
    raise Refused(f"{name}: {place} is another one: name --overwrite to lose it for the copy")


async def _check(bus: Bus, stream: str, overwrite: bool) -> None:
    """Raises Refused if what is there must stay."""
    has = await _messages(bus, stream)
    if has and not overwrite:
        raise Refused(f"{stream} has {has} messages: name --overwrite to lose them for the copy")
    if has is None:
        return
    if any(each.get("push_bound") for each in await streams.consumers(bus, stream)):
        raise Refused(f"a fallback follows {stream}: stop all of them first")


async def _messages(bus: Bus, stream: str) -> int | None:
    """None if there is no such stream."""
    try:
        return int((await streams.info(bus, stream))["state"]["messages"])
    except NotFound:
        return None


def read(path: Path) -> Contents:
    """What a file has. Raises Refused unless it is whole, to the last bit."""
    with path.open("rb") as file:
        end = os.fstat(file.fileno()).st_size - _TAIL
        if end < len(_HEAD) or (head := file.readline(len(_HEAD))) not in _HEADS:
            raise Refused(f"{path} is no backup of this version, or only the beginning of one")
        digest, left = hashlib.sha256(head), end - len(_HEAD)
        while left and (piece := file.read(min(left, snapshots.PIECE))):
            digest.update(piece)
            left -= len(piece)
        if file.read() != _SUM + digest.hexdigest().encode() + b"\n":
            raise Refused(f"{path} is damaged: its checksum does not fit. Nothing was restored")
        return _contents(file, end)


def _contents(file: IO[bytes], end: int) -> Contents:
    found = Contents([], {}, {}, {})
    file.seek(len(_HEAD))
    while file.tell() < end:
        said = orjson.loads(file.readline())
        if "keys" in said or "nodes" in said:
            rows = orjson.loads(file.read(said["size"]))
            into = found.keys if "keys" in said else found.nodes
            into.update({name: base64.b64decode(data) for name, data in rows.items()})
            continue
        if "file" in said:
            found.files[said["file"]] = file.read(said["size"]).decode()
            continue
        found.streams.append(_Copy(said["stream"], said["about"], file.tell(), said["size"]))
        file.seek(said["size"], os.SEEK_CUR)
    return found
