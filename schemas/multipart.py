"""Reads and writes whole ``multipart/form-data`` bodies (RFC 7578)."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from email.message import Message
from email.utils import collapse_rfc2231_value
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # else it logs clients' faults

FORM = "multipart/form-data"
MAX_PARTS = 128
MAX_TEXT = 64 * 1024
"""Bytes of one text field; prompts are the longest ones."""
_PIECE = 256 * 1024
"""Bytes that are read at once (measured: 0.5 ms)."""
_EXTENDED = re.compile(r"name\*", re.IGNORECASE)
_TOKEN = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""What needs no quotes in a header (RFC 9110)."""


class FormError(ValueError):
    """The body is no valid form; `param` names the part at fault, if there is one."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True, slots=True)
class Part:
    """`filename` is None for a text field, and may be empty for an upload. `plain`: its names are
    written in a way that every server reads."""

    name: str
    content: bytes
    filename: str | None = None
    content_type: str = ""
    plain: bool = field(default=True, compare=False)


def parse(body: bytes, content_type: str) -> list[Part]:
    """The parts in their order. Raises FormError. In a thread it lets others have their turns."""
    found = boundary(content_type)
    reader = _Reader()
    try:
        parser = MultipartParser(found, reader.callbacks())
        for at in range(0, len(body), _PIECE):
            parser.write(body[at : at + _PIECE])
        parser.finalize()
    except FormParserError as fault:
        raise FormError(f"The body is not valid multipart/form-data: {fault}.") from None
    # The parser itself accepts a form that was cut off.
    if not reader.ended:
        raise FormError("The form ends before its closing boundary.")
    return reader.parts


def boundary(content_type: str) -> bytes:
    """The boundary between parts that the header names. Raises FormError."""
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        raise FormError("The body has to be multipart/form-data.")
    found = options.get(b"boundary", b"")
    if not found:
        raise FormError("The Content-Type multipart/form-data has no boundary.")
    # `plainly` writes it into a header again.
    if not found.isascii() or not found.decode().isprintable():
        raise FormError("The boundary in the Content-Type has letters that no boundary may have.")
    return found


def plainly(body: bytes, content_type: str, parts: Iterable[Part]) -> tuple[bytes, str]:
    """(body, content type) of the same form for servers that do not know every way to write one.
    The body stays as it is if all of its parts are plain."""
    if not all(part.plain for part in parts):
        return encode(parts)
    found = boundary(content_type)
    mark = found.decode()
    return body, f"{FORM}; boundary={mark if _TOKEN.fullmatch(found) else _in_quotes(mark)}"


def encode(parts: Iterable[Part]) -> tuple[bytes, str]:
    """(body, content type)."""
    mark = f"headrace-{secrets.token_hex(16)}"
    pieces: list[bytes] = []
    for part in parts:
        pieces += (f"--{mark}\r\n{_head(part)}\r\n\r\n".encode(), part.content, b"\r\n")
    pieces.append(f"--{mark}--\r\n".encode())
    return b"".join(pieces), f"{FORM}; boundary={mark}"


def put(parts: Iterable[Part], name: str, value: str) -> tuple[bytes, str]:
    """(body, content type) of the form in which `value` replaces all fields `name`."""
    kept = [part for part in parts if part.name != name]
    return encode([*kept, Part(name, value.encode())])


def _head(part: Part) -> str:
    head = f'Content-Disposition: form-data; name="{_quoted(part.name)}"'
    if part.filename is not None:
        head += f'; filename="{_quoted(part.filename)}"'
    if part.content_type:
        head += f"\r\nContent-Type: {part.content_type}"
    return head


def _in_quotes(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _quoted(text: str) -> str:
    """Quote as browsers do (HTML standard, multipart/form-data encoding algorithm)."""
    return text.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")


class _Reader:
    """The parser's callbacks. Each gets a slice of the body; long content comes in several."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.ended = False
        self._name = b""
        self._value = b""
        self._headers: dict[bytes, str] = {}
        self._content: list[bytes] = []
        self._size = 0
        self._part = Part("", b"")

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._named,
            "on_part_data": self._data,
            "on_part_end": self._finish,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.parts) == MAX_PARTS:
            raise FormError(f"The form has more than {MAX_PARTS} parts.")
        self._headers, self._content, self._size = {}, [], 0

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._name.lower()] = self._value.decode("utf-8", "replace")
        self._name = self._value = b""

    def _named(self) -> None:
        said = self._headers.get(b"content-disposition", "")
        kind, options = parse_options_header(_latin(said))
        name, filename = _option(said, options, "name"), _option(said, options, "filename")
        if kind != b"form-data" or not name:
            raise FormError("A part of the form has no name.")
        content_type = self._headers.get(b"content-type", "")
        self._part = Part(name, b"", filename, content_type, _EXTENDED.search(said) is None)

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._size += end - start
        # An upload has the bound of the whole body alone.
        if self._part.filename is None and self._size > MAX_TEXT:
            name = self._part.name
            longest = f"{MAX_TEXT // 1024} KiB"
            why = f"{name!r} is longer than {longest}; what is a file needs a filename in its part."
            raise FormError(why, name)
        self._content.append(data[start:end])

    def _finish(self) -> None:
        self.parts.append(replace(self._part, content=b"".join(self._content)))

    def _end(self) -> None:
        self.ended = True


def _option(header: str, options: dict[bytes, bytes], name: str) -> str | None:
    """A parameter of a header. `options`: the plain ones. The others are percent-encoded in the
    charset that they name (``filename*=UTF-8''na%C3%AFve.png``, RFC 5987), and may come in pieces
    (RFC 2231); some clients write every name so that has more than ASCII."""
    plain = options.get(name.encode())
    if plain is not None:
        return plain.decode("utf-8", "replace")
    if _EXTENDED.search(header) is None:
        return None
    message = Message()
    message["Content-Disposition"] = header
    found = message.get_param(name, header="Content-Disposition")
    return None if found is None else collapse_rfc2231_value(found)


def _latin(text: str) -> str:
    """UTF-8 bytes as latin-1 letters, which `parse_options_header` expects and turns back."""
    return text.encode("utf-8").decode("latin-1")
