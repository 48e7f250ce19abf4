"""The job on the wire: a msgpack array of the protocol's version and the fields of `Job`.

The body is the request's, untouched. A new field, or a field with a new meaning, needs a new
version, and no version reads another one (docs/wire.md). Optional data, such as a trace context,
belongs in NATS headers, because readers ignore headers that they do not know.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter, gt
from typing import Any, NamedTuple

import msgpack

from schemas import bounds

VERSION = 4
"""The version of jobs, frames and control messages."""
WANTED_ENGINE = "Headrace-Engine"
"""The header of a job that is for one engine of a node rather than for others there."""
WANTED_FOR = "Headrace-Engine-Wait"
"""The header of such a job that is to wait there for a slot: for how many milliseconds."""
MOST_WANTED = 30.0
"""Seconds that it may wait at most."""
MAX_BODY = 2**31
"""Bytes of a body: twice the largest `max_body` that an ingress can be set to."""
MOST_TOGETHER = 256
"""Jobs of one request. The ids differ in the last two hex digits only, hence 256."""


class CodecError(ValueError):
    """The bytes are no message of this protocol version."""


class OtherVersion(CodecError):
    """The message may be of another protocol version."""

    def __init__(self, what: str, version: int) -> None:
        super().__init__(
            f"a {what} of protocol version {version}, and this process speaks {VERSION}: "
            "run one release of Headrace everywhere"
        )
        self.version = version


class Begun(NamedTuple):
    """The part of an answer that the client has already, if another holder continues it. `tokens`:
    the events that it came in. `thoughts` stand before the `text`."""

    tokens: int
    text: str
    thoughts: str = ""


@dataclass(slots=True)
class Job:
    """One inference request as published to the stream. Nobody changes one; not frozen, as that
    costs 3 µs each time that one is made.

    `id`: 128 random bits as 32 hex digits. `asked`: the model's name as the client wrote it. Times
    are milliseconds of the Unix epoch: `arrived`, `claim_by` (a holder must have taken the job),
    `first_by` (first byte), `total_by` (last byte). `body` is empty if `body_size` > 0: then the
    holder fetches the body from the ingress in pieces. `edition`: how often the job was published
    before, copies for providers included. `lenient`: the client accepts that the engine ignores
    fields of the request. `local`: no provider may see the job. `together`: how many jobs the
    request has. `route`: the route by which the job came, if the client wrote another name.
    `begun`: the answer continues from there, and holds only the rest.
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
    route: str = ""
    begun: Begun | None = None

    @property
    def again(self) -> bool:
        """Whether a holder may have the job already, even if this is its first delivery."""
        return self.edition > 0

    @property
    def leads(self) -> bool:
        """Whether this is the first job of its request, which counts for all of them."""
        return self.together == 1 or self.id.endswith("00")

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all jobs of the request, this one included."""
        if self.together == 1:
            return (self.id,)
        return tuple(one_of(self.id[:-2], number) for number in range(self.together))

    def pack(self) -> bytes:
        return _pack((VERSION, *_fields(self)))


_pack: Callable[[object], bytes] = msgpack.Packer().pack
_fields = attrgetter(*Job.__dataclass_fields__)
_TYPES = (*(str,) * 6, *(int,) * 4, *(bool, str, str, str, bytes, int, int, bool, bool, int, str))
"""Types of all fields except the last."""
_LONGEST = {
    **dict.fromkeys(("model", "asked", "route", "content_type"), bounds.MODEL),
    **dict.fromkeys(("id", "ingress", "endpoint", "account", "key"), bounds.NAME),
    "lane": bounds.TOKEN,  # it may have the name of a node
}
"""The most letters of each text."""
_texts = attrgetter(*_LONGEST)
_token = bounds.IN_SUBJECT.fullmatch


def engine_of(holder: str, name: str) -> str:
    """What `WANTED_ENGINE` says: an engine by its process and its name."""
    return f"{holder} {name!a}"


def one_of(group: str, number: int) -> str:
    """The id of job `number` of a request. `group`: 120 random bits as hex digits."""
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
    _check_bounds(job)
    if not 0 <= job.body_size <= MAX_BODY:
        raise CodecError(f"not a job: its body cannot have {job.body_size} bytes")
    if not 0 <= job.edition <= bounds.WHOLE or not 1 <= job.together <= MOST_TOGETHER:
        raise CodecError("not a job: a number is out of bounds")
    return job


def _check_bounds(job: Job) -> None:
    """Of the texts, which become subjects, headers and labels of metrics, and of the times. Raises
    CodecError."""
    if any(map(gt, map(len, _texts(job)), _LONGEST.values())):
        raise CodecError("not a job: a text is too long")
    if _token(job.id) is None or _token(job.ingress) is None:
        raise CodecError("not a job: its id, or its ingress, cannot stand in a subject")
    times = job.arrived, job.claim_by, job.first_by, job.total_by
    if min(times) < 0 or max(times) > bounds.WHOLE:
        raise CodecError("not a job: a time is none")


def _begun(field: Any) -> Begun | None:
    if field is None:
        return None
    if not isinstance(field, tuple) or tuple(map(type, field)) != (int, str, str):
        raise CodecError("not a job: what was begun is no number, text and thoughts")
    if not 0 <= field[0] <= bounds.TOKENS:
        raise CodecError("not a job: what was begun cannot have so many tokens")
    return Begun(*field)
