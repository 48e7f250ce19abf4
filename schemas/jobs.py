"""The job as it travels: a msgpack array whose last field is the request body, untouched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgpack

VERSION = 1
MAX_BODY = 2**31
"""Bytes of a body: twice the most that an ingress can be told to take."""
ASKED = "asked"
"""The tag with the model's name as the client said it, where that is not the model's own."""
LENIENT = ("lenient", "true")
"""The tag of a client that takes an answer without the fields that are passed over."""
LOCAL = ("reach", "local")
"""The tag of a job that no provider may see, though others of its model may go to one."""
AGAIN = ("again", "true")
"""The tag of a job that was published before: somebody may hold it already."""
TOGETHER = "together"
"""The tag of one of several jobs of one request: see `together`."""
BEGUN = "begun"
"""The tag of a job whose answer is to go on from a text: see `begun`."""


class CodecError(ValueError):
    """The bytes are no message of this protocol version."""


def begun(tokens: int, text: str) -> tuple[str, str]:
    """The tag of a job whose client has `text` already, and must get the rest of it alone."""
    return BEGUN, f"{tokens}:{text}"


def together(group: str, number: int, count: int) -> tuple[str, tuple[str, str]]:
    """(id, tag) of a request's job of this `number`; `group`: 120 random bits as hex digits."""
    return f"{group}{number:02x}", (TOGETHER, str(count))


@dataclass(frozen=True, slots=True)
class Job:
    """One inference request as published to the stream.

    `id`: 128 random bits as 32 hex digits. Times are milliseconds of the Unix epoch: `arrived`,
    `claim_by` (someone must have taken it), `first_by` (first byte), `total_by` (last byte).
    `body` is empty when `body_size` > 0: then the holder fetches it from the ingress in pieces.
    `tags` carries what later versions add (a trace context, say) without a new layout.
    """

    id: str
    ingress: str
    lane: str
    model: str
    endpoint: str
    arrived: int
    claim_by: int
    first_by: int
    total_by: int
    stream: bool
    account: str
    key: str
    content_type: str
    body: bytes
    body_size: int = 0
    tags: tuple[tuple[str, str], ...] = ()

    @property
    def asked(self) -> str:
        """The name that the answer gives the model: the one the client used."""
        for name, value in self.tags:
            if name == ASKED:
                return value
        return self.model

    @property
    def again(self) -> bool:
        """Whether somebody may hold it already, although it is delivered for the first time."""
        return AGAIN in self.tags

    @property
    def together(self) -> tuple[str, ...]:
        """The ids of all jobs of its request, its own among them."""
        for name, value in self.tags:
            if name == TOGETHER:
                group = self.id[:-2]
                return tuple(f"{group}{number:02x}" for number in range(int(value)))
        return (self.id,)

    @property
    def begun(self) -> tuple[int, str] | None:
        """(tokens, text) that the client has of the answer; None: it has nothing."""
        for name, value in self.tags:
            if name == BEGUN:
                tokens, _, text = value.partition(":")
                return int(tokens), text
        return None

    def pack(self) -> bytes:
        return msgpack.packb(  # type: ignore[no-any-return]
            (
                VERSION,
                self.id,
                self.ingress,
                self.lane,
                self.model,
                self.endpoint,
                self.arrived,
                self.claim_by,
                self.first_by,
                self.total_by,
                self.stream,
                self.account,
                self.key,
                self.content_type,
                self.body,
                self.body_size,
                self.tags,
            )
        )


_TYPES = (
    *(str,) * 5,
    *(int,) * 4,
    *(bool, str, str, str, bytes, int, tuple),
)


def unpack_fields(data: bytes, count: int, what: str) -> tuple[Any, ...]:
    """The `count` fields of a message that is one array. Raises CodecError; `what` names it."""
    try:
        fields: Any = msgpack.unpackb(data, use_list=False)
    except (ValueError, msgpack.UnpackException) as fault:
        raise CodecError(f"not a {what}: {fault}") from None
    if not isinstance(fields, tuple) or len(fields) != count or fields[0] != VERSION:
        raise CodecError(f"not a {what} of protocol version {VERSION}")
    return fields


def unpack(data: bytes) -> Job:
    """Raises CodecError for anything but a job of this version."""
    fields = unpack_fields(data, 17, "job")
    if tuple(map(type, fields[1:])) != _TYPES or not all(map(is_pair, fields[-1])):
        raise CodecError("not a job: a field has the wrong type")
    job = Job(*fields[1:])
    if not 0 <= job.body_size <= MAX_BODY:
        raise CodecError(f"not a job: its body cannot have {job.body_size} bytes")
    return job


def is_pair(pair: Any) -> bool:
    """Whether it is two texts."""
    return isinstance(pair, tuple) and tuple(map(type, pair)) == (str, str)
