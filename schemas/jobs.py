"""The job as it travels: a msgpack array of the protocol's version and the fields of `Job`.

The body is the request's, untouched. A field more, or one that means something else, is a new
version, and no version reads another's (docs/wire.md). What readers may do without, a trace context
say, belongs into NATS headers, which all pass over that do not know them.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

import msgpack

VERSION = 2
"""Of jobs, frames and control messages."""
MAX_BODY = 2**31
"""Bytes of a body: twice the most that an ingress can be told to take."""
MOST_TOGETHER = 256
"""Jobs of one request: their ids differ in the last two hex digits."""


class CodecError(ValueError):
    """The bytes are no message of this protocol version."""


class OtherVersion(CodecError):
    """They may be one of another version."""

    def __init__(self, what: str, version: int) -> None:
        super().__init__(
            f"a {what} of protocol version {version}, and this process speaks {VERSION}: "
            "run one release of Headrace everywhere"
        )
        self.version = version


class Begun(NamedTuple):
    """What a client has of an answer that is to be continued."""

    tokens: int
    text: str


@dataclass(frozen=True, slots=True)
class Job:
    """One inference request as published to the stream.

    `id`: 128 random bits as 32 hex digits. `asked`: the model's name as the client said it. Times
    are milliseconds of the Unix epoch: `arrived`, `claim_by` (someone must have taken it),
    `first_by` (first byte), `total_by` (last byte). `body` is empty when `body_size` > 0: then the
    holder fetches it from the ingress in pieces. `edition`: how often it was published before; a
    copy for providers beside a worker is one, too. `lenient`: the client takes an answer without
    the fields that are passed over. `local`: no provider may see it. `together`: the number of jobs
    that its request has. `begun`: the answer is to go on from there, and has the rest alone.
    """

    id: str
    ingress: str
    lane: str
    model: str
    asked: str
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
    edition: int = 0
    lenient: bool = False
    local: bool = False
    together: int = 1
    begun: Begun | None = None

    @property
    def again(self) -> bool:
        """Whether somebody may hold it already, although it is delivered for the first time."""
        return self.edition > 0

    @property
    def ids(self) -> tuple[str, ...]:
        """Of all jobs of its request, its own among them."""
        if self.together == 1:
            return (self.id,)
        return tuple(one_of(self.id[:-2], number) for number in range(self.together))

    def pack(self) -> bytes:
        return msgpack.packb((VERSION, *_fields(self)))  # type: ignore[no-any-return]


_fields = attrgetter(*Job.__dataclass_fields__)
_TYPES = (
    *(str,) * 6,
    *(int,) * 4,
    *(bool, str, str, str, bytes, int, int, bool, bool, int),
)
"""Of all fields but the last."""


def one_of(group: str, number: int) -> str:
    """The id of a request's job of this `number`. `group`: 120 random bits as hex digits."""
    return f"{group}{number:02x}"


def unpack_fields(data: bytes, count: int, what: str) -> tuple[Any, ...]:
    """The `count` fields of a message that is one array. Raises CodecError; `what` names it."""
    try:
        fields: Any = msgpack.unpackb(data, use_list=False)
    except (ValueError, msgpack.UnpackException) as fault:
        raise CodecError(f"not a {what}: {fault}") from None
    check_version(fields, what)
    if len(fields) != count:
        raise CodecError(f"not a {what}: it has {len(fields)} fields and not {count}")
    return fields  # type: ignore[no-any-return]


def check_version(fields: Any, what: str) -> None:
    """Raises CodecError for anything but an array that begins with the version."""
    if not isinstance(fields, tuple) or not fields or type(fields[0]) is not int:
        raise CodecError(f"not a {what}")
    if fields[0] != VERSION:
        raise OtherVersion(what, fields[0])


def unpack(data: bytes) -> Job:
    """Raises CodecError for anything but a job of this version."""
    fields = unpack_fields(data, 1 + len(Job.__dataclass_fields__), "job")
    if tuple(map(type, fields[1:-1])) != _TYPES:
        raise CodecError("not a job: a field has the wrong type")
    values = [*fields[1:-1], _begun(fields[-1])]
    job = Job(*values)
    if not 0 <= job.body_size <= MAX_BODY:
        raise CodecError(f"not a job: its body cannot have {job.body_size} bytes")
    if job.edition < 0 or not 1 <= job.together <= MOST_TOGETHER:
        raise CodecError("not a job: a number is out of bounds")
    return job


def _begun(field: Any) -> Begun | None:
    if field is None:
        return None
    if not isinstance(field, tuple) or tuple(map(type, field)) != (int, str):
        raise CodecError("not a job: what was begun is no number and text")
    return Begun(*field)
