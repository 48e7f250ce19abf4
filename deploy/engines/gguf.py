"""Reads the head of a GGUF file: what it says of its model, and how its tensors are called.

The layout: ggml's docs/gguf.md, versions 2 and 3. The package `gguf` reads it, too, but with numpy,
which nothing else here needs, and maps the whole file. Lists are passed over unless they are short:
those of a vocabulary have 200,000 entries.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_STRING, _ARRAY = 8, 9
_PLAIN = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
"""Types of values with a fixed size, as `struct` reads them."""
_SHORT = 1024
"""Most entries of a list that is kept: one for each layer, for example."""
_MOST_ENTRIES, _MOST_TEXT, _MOST_LIST, _MOST_TENSORS = 65_536, 2**24, 2**21, 65_536
_MOST_HEAD = 2**27
"""Bounds of what a sound file has, so that a damaged one takes neither memory nor minutes: a file
with holes is as long as it likes. The longest texts are chat templates, the longest lists
vocabularies; heads have up to 40 MB (`_MOST_HEAD`: bytes)."""

Value = int | float | bool | str | list[int | float | bool]


class Unreadable(Exception):
    """The file is damaged, or of a version that is not known; the message says which."""


@dataclass(frozen=True, slots=True)
class Head:
    """`values`: by key, as ``general.architecture``; `tensors`: their names."""

    values: dict[str, Value] = field(default_factory=dict)
    tensors: tuple[str, ...] = ()

    def text(self, key: str) -> str:
        found = self.values.get(key)
        return found if isinstance(found, str) else ""

    def number(self, key: str) -> int:
        """0 if there is none."""
        found = self.values.get(key)
        return found if isinstance(found, int) else 0

    @property
    def architecture(self) -> str:
        return self.text("general.architecture")

    def own(self, key: str) -> int:
        """A number that is kept under the name of the architecture, as ``llama.block_count``."""
        return self.number(f"{self.architecture}.{key}")


def read(path: Path) -> Head:
    """Raises Unreadable, or OSError."""
    with path.open("rb") as file:
        try:
            return _read(file)
        except (struct.error, EOFError):
            raise Unreadable("it ends in the middle of its head: was all of it copied?") from None
        except UnicodeDecodeError:
            raise Unreadable("its head is damaged") from None


def _read(file: BinaryIO) -> Head:
    if file.read(len(MAGIC)) != MAGIC:
        raise Unreadable("it is no GGUF file")
    version = _number(file, "<I")
    if version not in _VERSIONS:
        raise Unreadable(f"it is GGUF of version {version}, and 2 and 3 are known")
    tensors, entries = _number(file, "<Q"), _number(file, "<Q")
    if entries > _MOST_ENTRIES or tensors > _MOST_TENSORS:
        raise Unreadable("its head is damaged")
    values: dict[str, Value] = {}
    for _ in range(entries):
        _check_place(file)
        key, kind = _text(file), _number(file, "<I")
        value = _value(file, kind)
        if value is not None:
            values[key] = value
    return Head(values, tuple(_tensor(file) for _ in range(tensors)))


def _tensor(file: BinaryIO) -> str:
    """Its name; then follow dimensions, type and place."""
    _check_place(file)
    name = _text(file)
    dimensions = _number(file, "<I")
    _skip(file, 8 * min(dimensions, 8) + 4 + 8)
    return name


def _value(file: BinaryIO, kind: int) -> Value | None:
    """None for a list that is passed over."""
    if kind == _STRING:
        return _text(file)
    if kind == _ARRAY:
        return _list(file)
    return _plain(file, kind)


def _list(file: BinaryIO) -> list[int | float | bool] | None:
    kind, size = _number(file, "<I"), _number(file, "<Q")
    if size > _MOST_LIST or kind == _ARRAY:
        raise Unreadable("its head is damaged")
    if kind == _STRING:
        for _ in range(size):
            _skip(file, _number(file, "<Q"))
        return None
    if size > _SHORT:
        _skip(file, size * struct.calcsize(_form(kind)))
        return None
    return [_plain(file, kind) for _ in range(size)]


def _plain(file: BinaryIO, kind: int) -> int | float | bool:
    form = _form(kind)
    found: int | float | bool = struct.unpack(form, _bytes(file, struct.calcsize(form)))[0]
    return found


def _form(kind: int) -> str:
    if kind not in _PLAIN:
        raise Unreadable(f"its head has a value of type {kind}, which is not known")
    return _PLAIN[kind]


def _number(file: BinaryIO, form: str) -> int:
    found: int = struct.unpack(form, _bytes(file, struct.calcsize(form)))[0]
    return found


def _text(file: BinaryIO) -> str:
    size = _number(file, "<Q")
    if size > _MOST_TEXT:
        raise Unreadable("its head is damaged")
    return _bytes(file, size).decode()


def _bytes(file: BinaryIO, size: int) -> bytes:
    found = file.read(size)
    if len(found) < size:
        raise EOFError
    return found


def _check_place(file: BinaryIO) -> None:
    """Raises Unreadable behind the end of the longest head."""
    if file.tell() > _MOST_HEAD:
        raise Unreadable("its head is damaged")


def _skip(file: BinaryIO, size: int) -> None:
    if size > _MOST_TEXT * 8:
        raise Unreadable("its head is damaged")
    file.seek(size, 1)
