"""Reads a CTranslate2 ``model.bin``: a header, then named tensors, then aliases.

Layout, little-endian (CTranslate2's `model_spec.py`, binary version 6): u32 version, name of the
spec, u32 its revision, u32 tensors; each: name, u8 rank, rank × u32 sizes, u8 type, u32 bytes,
data; then u32 aliases, each two names. A name is u16 length with its closing NUL, then the bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from tests.builders.errors import ModelUnreadable

FLOAT16 = 4
INT16 = 2


@dataclass(frozen=True, slots=True)
class Tensor:
    """`data` in row-major order, `shape` outermost first; `kind` is CTranslate2's type number."""

    shape: tuple[int, ...]
    kind: int
    data: memoryview

    def halves(self, first: int = 0, rows: int | None = None) -> memoryview:
        """The bytes of some rows, as 16-bit floats. Raises ModelUnreadable for other types."""
        if self.kind != FLOAT16:
            raise ModelUnreadable("the model's weights are not 16-bit floats")
        rows = self.shape[0] - first if rows is None else rows
        row = len(self.data) // self.shape[0]
        return self.data[first * row : (first + rows) * row]


def read(model: bytes) -> dict[str, Tensor]:
    """Tensors by name. Raises ModelUnreadable."""
    try:
        return _Reader(model).tensors()
    except (struct.error, UnicodeDecodeError) as fault:
        raise ModelUnreadable(f"not a CTranslate2 model: {fault}") from None


class _Reader:
    def __init__(self, model: bytes) -> None:
        self._model = memoryview(model)
        self._at = 0

    def tensors(self) -> dict[str, Tensor]:
        version = self._number("I")
        if version != 6 or (spec := self._name()) != "WhisperSpec":
            what = f"version {version}" if version != 6 else spec
            raise ModelUnreadable(f"not a CTranslate2 Whisper model of version 6, but {what}")
        self._number("I")
        return dict(self._each(self._tensor) for _ in range(self._number("I")))

    def _each(self, read: Callable[[], Tensor]) -> tuple[str, Tensor]:
        return self._name(), read()

    def _tensor(self) -> Tensor:
        shape = tuple(self._number("I") for _ in range(self._number("B")))
        kind, size = self._number("B"), self._number("I")
        data = self._model[self._at : self._at + size]
        if len(data) != size:
            raise ModelUnreadable("the model ends in the middle of a tensor")
        self._at += size
        return Tensor(shape, kind, data)

    def _name(self) -> str:
        size = self._number("H")
        name = bytes(self._model[self._at : self._at + size])
        self._at += size
        return name.rstrip(b"\0").decode()

    def _number(self, form: str) -> int:
        (value,) = struct.unpack_from(f"<{form}", self._model, self._at)
        self._at += struct.calcsize(form)
        return int(value)
