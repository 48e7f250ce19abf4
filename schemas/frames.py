"""Frames (holder to ingress) and control messages (ingress to holder).

Nobody changes one. They are not frozen, as that costs a microsecond each time that one is made.

One NATS message carries one or more frames, one msgpack array after the other, so that a short
answer (`start`, `data`, `end`) is one message. A frame names the attempt (the broker's delivery
count) and a nonce that the holder drew for this delivery, so that the ingress can drop late frames
of an earlier holder. `seq` counts the frames of an attempt from 0; if a number is missing, the
ingress asks for a resend.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from operator import attrgetter
from typing import Any, NamedTuple

import msgpack

from schemas import bounds, jobs
from schemas.jobs import CodecError, check_version, unpack_fields

VERSION = jobs.VERSION


class Role(StrEnum):
    """What kind of process holds a job."""

    WORKER = "worker"
    FALLBACK = "fallback"
    """Its engines are paid providers."""


class Kind(IntEnum):
    CLAIM = 0
    START = 1
    DATA = 2
    ALIVE = 3
    END = 4
    FAIL = 5
    NOTE = 6
    """Pairs of texts for the head of the answer or for the access log."""


NOTED = "x-headrace-"
"""The names of notes begin with this, because notes become headers of the answer."""
SERVED_BY = f"{NOTED}served-by"
COST = f"{NOTED}cost"
COST_LIMIT = f"{NOTED}cost-limit"

# Plain ints, because an enum's members are slow for each frame.
_DATA = int(Kind.DATA)
_ALIVE = int(Kind.ALIVE)
_ROLES = {role.value: role for role in Role}
MOST_NOTES = 16
"""Notes of one frame, and of one answer."""
_SMALL = 64 * 1024
"""Bytes of frames up to which `_unpacker` reads them, whose buffer stays that small."""
_NONE = b"\xc0"
_holder_name = bounds.HOLDER_NAME.fullmatch
_KIND, _START = slice(2, 3), bytes([Kind.START])
"""Where the kind is in a packed frame, and that of an answer's head."""
_pack: Callable[[object], bytes] = msgpack.Packer().pack
"""msgpack.packb makes a packer each time, which takes as long as the packing."""


class Frame(NamedTuple):
    """`body`: bytes for DATA; None, or True if tokens are being made, for ALIVE; pairs of texts for
    NOTE; for other kinds the fields of the class of that name."""

    kind: int
    attempt: int
    nonce: int
    seq: int
    body: Any


@dataclass(slots=True)
class Claim:
    """A request to hold the job. `ack`: the broker's ack subject of this delivery. `edition`: the
    edition of the delivered job, because a job may be published more than once. `began`: its engine
    has the job already; else the holder takes another job, too. `swapped`: the job is another than
    the one that was delivered; only an ingress says so, to itself."""

    role: Role
    holder: str
    node: str
    engine: str
    ack: str
    edition: int
    began: bool = False
    swapped: bool = False

    @classmethod
    def of(cls, body: tuple[Any, ...]) -> Claim:
        """The claim in the body of a CLAIM frame."""
        return cls(_ROLES[body[0]], *body[1:])

    @property
    def body(self) -> tuple[str, str, str, str, str, int, bool]:
        who = self.role.value, self.holder, self.node, self.engine
        return *who, self.ack, self.edition, self.began

    @property
    def by_provider(self) -> bool:
        """Whether a paid provider would do the job."""
        return self.role is Role.FALLBACK


@dataclass(slots=True)
class Start:
    """The upstream's status and content type. Now the ingress may write the head."""

    status: int
    content_type: str


@dataclass(slots=True)
class End:
    """The answer is complete. Tokens are -1 if the engine did not count them. `characters` were
    spoken; `audio_ms` of a recording were heard."""

    prompt_tokens: int = -1
    completion_tokens: int = -1
    cached_tokens: int = -1
    engine_ms: int = 0
    images: int = 0
    characters: int = 0
    audio_ms: int = 0

    @property
    def body(self) -> tuple[int, ...]:
        """Within bounds, whatever the engine counted: else the whole answer would be refused."""
        found = _counts(self)
        if min(found) >= -1 and max(found) <= bounds.TOKENS:
            return found
        return tuple(max(-1, min(each, bounds.TOKENS)) for each in found)


_counts: Callable[[End], tuple[int, ...]] = attrgetter(*End.__dataclass_fields__)
_NUMBERS = (int,) * len(End.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class Fail:
    """The attempt failed; `code` is one of schemas.errors.CODES."""

    code: str
    message: str
    retryable: bool


def pack(kind: Kind, attempt: int, nonce: int, seq: int, body: Any = None) -> bytes:
    return _pack((VERSION, int(kind), attempt, nonce, seq, body))


def unpack(data: bytes) -> list[Frame]:
    """The frames of one message. Raises CodecError if any part is no frame.

    The usual one has a single frame: reading that takes 0.14 µs, and an Unpacker 0.7. For several
    an Unpacker is faster, above all than the fault of who expected one. The head of an answer comes
    seldom alone.
    """
    if data[_KIND] == _START:
        return [_frame(fields) for fields in _several.read(data)]
    if not data:
        return []
    try:
        fields = msgpack.unpackb(data, use_list=False)
    except msgpack.ExtraData:
        return [_frame(each) for each in _several.read(data)]
    except (ValueError, msgpack.UnpackException) as fault:
        raise CodecError(f"not a frame: {fault}") from None
    return [_frame(fields)]


class _Several:
    """Reads messages of several frames, with one unpacker for all that are small."""

    def __init__(self) -> None:
        self._small = _unpacker(_SMALL)

    def read(self, data: bytes) -> list[Any]:
        """Raises CodecError."""
        unpacker = self._small if len(data) < _SMALL else _unpacker(len(data) + 1)
        try:
            unpacker.feed(data)
            found = list(unpacker)
            unpacker.feed(_NONE)  # a None comes out only if no part of a frame is left before it
            if list(unpacker) == [None]:
                return found
            why = "the last one is cut"
        except (ValueError, msgpack.UnpackException) as fault:
            why = str(fault)
        self._small = _unpacker(_SMALL)  # what is left would begin the next message
        raise CodecError(f"not a frame: {why}")


def _unpacker(size: int) -> msgpack.Unpacker:
    return msgpack.Unpacker(use_list=False, max_buffer_size=size)


_several = _Several()


def _frame(fields: Any) -> Frame:
    """Check the types of all fields, so that nobody else needs to."""
    if not isinstance(fields, tuple) or len(fields) != 6 or fields[0] != VERSION:
        check_version(fields, "frame")  # raises, unless the number of fields alone is wrong
        raise CodecError("not a frame: it has other fields")
    _, kind, attempt, nonce, seq, body = fields
    # Exact types here and below, because to isinstance a bool is an int.
    if not (type(kind) is type(attempt) is type(nonce) is type(seq) is int):
        raise CodecError("not a frame: a number is none")
    if kind == _DATA:
        fits = isinstance(body, bytes)
    elif check := _CHECKS.get(kind):
        fits = isinstance(body, tuple) and check(body)
    elif kind != _ALIVE:
        return Frame(kind, attempt, nonce, seq, None)  # of a newer kind: nobody here reads it
    else:
        fits = body is None or body is True
    if not fits:
        raise CodecError(f"not a frame: the body does not fit kind {kind}")
    return Frame._make(fields[1:])


def _is_claim(body: tuple[Any, ...]) -> bool:
    if tuple(map(type, body)) != (str, str, str, str, str, int, bool):
        return False
    role, holder, node, engine, ack, edition, _ = body
    if role not in _ROLES or _holder_name(holder) is None or len(ack) > bounds.TOKEN:
        return False
    names = len(node) <= bounds.NAME and len(engine) <= bounds.NAME
    return names and 0 <= edition <= bounds.WHOLE


def _is_start(body: tuple[Any, ...]) -> bool:
    fits = len(body) == 2 and type(body[0]) is int and 200 <= body[0] <= 599
    return fits and type(body[1]) is str and len(body[1]) <= bounds.TEXT


def _is_end(body: tuple[Any, ...]) -> bool:
    return tuple(map(type, body)) == _NUMBERS and min(body) >= -1 and max(body) <= bounds.TOKENS


def _is_fail(body: tuple[Any, ...]) -> bool:
    fits = tuple(map(type, body)) == (str, str, bool)
    return fits and len(body[0]) <= bounds.NAME and len(body[1]) <= bounds.MESSAGE


def _are_notes(body: tuple[Any, ...]) -> bool:
    return len(body) <= MOST_NOTES and all(map(_is_pair, body))


def _is_pair(pair: Any) -> bool:
    """Whether it is two texts."""
    if type(pair) is not tuple or tuple(map(type, pair)) != (str, str):
        return False
    return max(map(len, pair)) <= bounds.MESSAGE


_CHECKS: dict[int, Callable[[tuple[Any, ...]], bool]] = {
    int(Kind.CLAIM): _is_claim,
    int(Kind.START): _is_start,
    int(Kind.END): _is_end,
    int(Kind.FAIL): _is_fail,
    int(Kind.NOTE): _are_notes,
}
"""Whether a body holds the fields of its kind."""


class Op(IntEnum):
    """What an ingress tells a holder, or the hub."""

    GO = 0
    """The claim is granted."""
    DROP = 1
    """Someone else holds the job: stop, and send no ack, nak or in_progress."""
    GONE = 2
    """Nobody waits for the answer of this delivery any more: send +TERM."""
    CANCEL = 3
    """The client left: stop the engine, and send +TERM."""
    RESEND = 4
    """Send the frames again from `Control.first` on."""
    LEAVE = 5
    """To a fallback: no provider may have the job, or not yet. Send -NAK."""
    GIVE = 6
    """The claim is granted, for another job than was delivered: `Control.given`."""
    ORDER = 7
    """Of the hub, to the whole process: `Control.given` is a packed `registry.Order`."""
    RANK = 8
    """To the whole process: `Control.given` says how its engines rank (`schemas.ranks`)."""
    SHOW = 9
    """To the whole process: send a whole card, as the last one named what was told before."""


class Control(NamedTuple):
    """`first`: for RESEND, the first seq that is missing. `given`: for GIVE, the job as
    bytes; for ORDER, the order; for RANK, the ranks."""

    op: int
    job: str
    nonce: int
    first: int
    given: bytes = b""


def pack_control(op: Op, job: str, nonce: int, first: int = 0, given: bytes = b"") -> bytes:
    return _pack((VERSION, int(op), job, nonce, first, given))


def unpack_control(data: bytes) -> Control:
    """Raises CodecError for anything but a control message of this version."""
    control = Control(*unpack_fields(data, 6, "control message")[1:])
    if tuple(map(type, control)) != (int, str, int, int, bytes):
        raise CodecError("not a control message: a field has the wrong type")
    if len(control.job) > bounds.NAME:
        raise CodecError("not a control message: its job has a long name")
    return control
