"""What ingresses tell each other of their queues: msgpack arrays that begin with the version."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgpack

from schemas import bounds
from schemas.jobs import VERSION, CodecError, unpack_fields


class Standing(NamedTuple):
    """How an ingress stands in the queue of one model and lane. `open`: its jobs of the model that
    wait or run. `virtual`: the highest start tag that it served. `head`: the tenant whose job is
    its next, empty if none waits; `start`, `known`: that job's tag. `served`: the tenant that was
    served last, or empty; `finish`: the start tag of that one's next job."""

    ingress: str
    open: int
    virtual: float
    head: str
    start: float
    known: bool
    served: str
    finish: float

    def pack(self) -> bytes:
        return msgpack.packb((VERSION, *self))  # type: ignore[no-any-return]


class Offer(NamedTuple):
    """A slot that was claimed at one ingress, for a job of another whose turn it is. `job`: for
    which the claim was sent, in `frame`. `head`, `start`, `known`: whose turn it is at the one that
    offers."""

    ingress: str
    model: str
    lane: str
    head: str
    start: float
    known: bool
    job: str
    frame: bytes

    def pack(self) -> bytes:
        return msgpack.packb((VERSION, *self))  # type: ignore[no-any-return]


class Answer(NamedTuple):
    """To the offer of the slot of `nonce`."""

    nonce: int
    taken: bool

    def pack(self) -> bytes:
        return msgpack.packb((VERSION, *self))  # type: ignore[no-any-return]


MOST_LEARNT = 64
"""Prompts of one message of `learnt`."""
MOST_MARKS = 32
"""Marks of one of these."""


class Learnt(NamedTuple):
    """An engine has a prompt in its cache: its process, its name, the prompt's tokens and marks."""

    holder: str
    engine: str
    tokens: int
    marks: tuple[int, ...]


_STANDING = (str, int, float, str, float, bool, str, float)
_OFFER = (str, str, str, str, float, bool, str, bytes)


def standing(data: bytes) -> Standing:
    """Raises CodecError."""
    return Standing(*_fields(data, _STANDING, "standing"))


def said(data: bytes) -> Offer | Answer:
    """Raises CodecError."""
    try:
        return Offer(*_fields(data, _OFFER, "offer"))
    except CodecError:
        return Answer(*_fields(data, (int, bool), "offer, or an answer to one"))


def pack_learnt(ingress: str, news: Sequence[Learnt]) -> bytes:
    said = [(*each[:3], struct.pack(f">{len(each.marks)}Q", *each.marks)) for each in news]
    return msgpack.packb((VERSION, ingress, said))  # type: ignore[no-any-return]


def learnt(data: bytes) -> tuple[str, list[Learnt]]:
    """The ingress that says so, and what. Raises CodecError."""
    ingress, said = _fields(data, (str, tuple), "message about caches")
    if len(said) > MOST_LEARNT:
        raise CodecError(f"not a message about caches: it has {len(said)} prompts")
    return ingress, [_learnt(each) for each in said]


def _learnt(said: Any) -> Learnt:
    if not isinstance(said, tuple) or tuple(map(type, said)) != (str, str, int, bytes):
        raise CodecError("not a message about caches: a field has the wrong type")
    holder, engine, tokens, marks = said
    many, more = divmod(len(marks), 8)
    fits = bounds.is_holder(holder) and bounds.is_text(engine)
    if not (fits and bounds.is_number(tokens, bounds.TOKENS) and many <= MOST_MARKS and not more):
        raise CodecError("not a message about caches: a field is out of bounds")
    return Learnt(holder, engine, tokens, struct.unpack(f">{many}Q", marks))


def _fields(data: bytes, types: tuple[type, ...], what: str) -> tuple[Any, ...]:
    fields = unpack_fields(data, 1 + len(types), what)[1:]
    if tuple(map(type, fields)) != types:
        raise CodecError(f"not a {what}: a field has the wrong type")
    return fields
