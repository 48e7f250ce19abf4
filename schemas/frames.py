"""Frames (holder to ingress) and control messages (ingress to holder).

One NATS message carries one or more frames, one msgpack array after the other, so that a short
answer (`start`, `data`, `end`) is one message. A frame names the attempt (the broker's delivery
count) and a nonce that the holder drew for this delivery: the ingress drops what an earlier holder
still says. `seq` counts the frames of an attempt from 0; a hole makes the ingress ask for a resend.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import msgpack

from schemas.jobs import CodecError

VERSION = 1


class Kind(IntEnum):
    CLAIM = 0
    START = 1
    DATA = 2
    ALIVE = 3
    END = 4
    FAIL = 5


TERMINAL = frozenset({Kind.END, Kind.FAIL})


class Frame(NamedTuple):
    """`body`: bytes for DATA, None for ALIVE, else the fields of the class of that name."""

    kind: int
    attempt: int
    nonce: int
    seq: int
    body: Any


@dataclass(frozen=True, slots=True)
class Claim:
    """A request to hold the job; `ack` is the broker's ack subject of this delivery."""

    holder: str
    node: str
    engine: str
    ack: str


@dataclass(frozen=True, slots=True)
class Start:
    """The upstream's status and content type; from here on the ingress may write a head."""

    status: int
    content_type: str


@dataclass(frozen=True, slots=True)
class End:
    """The answer is whole. Tokens: -1 where the engine did not say. `engine_ms`: its time."""

    prompt_tokens: int = -1
    completion_tokens: int = -1
    cached_tokens: int = -1
    engine_ms: int = 0


@dataclass(frozen=True, slots=True)
class Fail:
    """The attempt failed; `code` is one of schemas.errors.CODES."""

    code: str
    message: str
    retryable: bool


def pack(kind: Kind, attempt: int, nonce: int, seq: int, body: Any = None) -> bytes:
    return msgpack.packb((VERSION, int(kind), attempt, nonce, seq, body))  # type: ignore[no-any-return]


def unpack(data: bytes) -> list[Frame]:
    """The frames of one message. Raises CodecError if any part is no frame.

    `unpackb` with a loop over what is left costs a tenth of a streaming Unpacker (0.25 µs
    against 3 µs for the usual message of one frame).
    """
    found = []
    rest = data
    while rest:
        try:
            fields = msgpack.unpackb(rest, use_list=False)
            rest = b""
        except msgpack.ExtraData as more:
            fields, rest = more.unpacked, more.extra
        except (ValueError, msgpack.UnpackException) as fault:
            raise CodecError(f"not a frame: {fault}") from None
        if not isinstance(fields, tuple) or len(fields) != 6 or fields[0] != VERSION:
            raise CodecError("not a frame of protocol version 1")
        found.append(Frame._make(fields[1:]))
    return found


class Op(IntEnum):
    """What an ingress says to a holder."""

    GO = 0
    RESUME = 1
    """argument: the text that the client already has."""
    DROP = 2
    """Someone else holds the job: stop, and send no ack, nak or in_progress."""
    GONE = 3
    """Nobody waits for the answer any more: +TERM. argument: "" or why it is a dead letter."""
    CANCEL = 4
    RESEND = 5
    """argument: the first seq that is missing."""


class Control(NamedTuple):
    op: int
    job: str
    nonce: int
    argument: Any


def pack_control(op: Op, job: str, nonce: int, argument: Any = None) -> bytes:
    return msgpack.packb((VERSION, int(op), job, nonce, argument))  # type: ignore[no-any-return]


def unpack_control(data: bytes) -> Control:
    try:
        fields: Any = msgpack.unpackb(data, use_list=False)
    except (ValueError, msgpack.UnpackException) as fault:
        raise CodecError(f"not a control message: {fault}") from None
    if not isinstance(fields, tuple) or len(fields) != 5 or fields[0] != VERSION:
        raise CodecError("not a control message of protocol version 1")
    return Control._make(fields[1:])
