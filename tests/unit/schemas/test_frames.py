from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import frames
from schemas.frames import Claim, End, Fail, Frame, Kind, Op, Role, Start
from schemas.jobs import CodecError, OtherVersion
from tests.unit import version_1

NUMBERS = st.integers(0, 2**53 - 1)
COUNTS = st.integers(-1, 2**31 - 1)
TOKENS = st.from_regex(r"[A-Za-z0-9_,~=-]{1,40}", fullmatch=True)
HOLDERS = st.builds("{}.{}".format, TOKENS, TOKENS)
TEXTS = st.text(max_size=40)
BODIES: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.CLAIM: st.tuples(
        st.sampled_from(["worker", "fallback"]), HOLDERS, *(TEXTS,) * 3, NUMBERS, st.booleans()
    ),
    Kind.START: st.tuples(st.integers(200, 599), TEXTS),
    Kind.DATA: st.binary(max_size=200),
    Kind.ALIVE: st.none(),
    Kind.END: st.tuples(*[COUNTS] * 7),
    Kind.FAIL: st.tuples(TEXTS, TEXTS, st.booleans()),
    Kind.NOTE: st.lists(st.tuples(TEXTS, TEXTS), max_size=3).map(tuple),
}
FRAMES = st.sampled_from(Kind).flatmap(
    lambda kind: st.builds(
        Frame, st.just(int(kind)), st.integers(1, 2**31), NUMBERS, NUMBERS, BODIES[kind]
    )
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False)
    | TEXTS | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=7) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=20,
)  # fmt: skip


def packed(frame: Frame) -> bytes:
    return frames.pack(Kind(frame.kind), frame.attempt, frame.nonce, frame.seq, frame.body)


@given(st.lists(FRAMES, max_size=20))
def test_frames_come_back_as_they_were(sent: list[Frame]) -> None:
    assert frames.unpack(b"".join(map(packed, sent))) == sent


@given(st.lists(FRAMES, min_size=1, max_size=12), st.data())
def test_a_message_that_was_cut_is_refused(sent: list[Frame], data: st.DataObject) -> None:
    last = packed(sent[-1])
    cut = data.draw(st.integers(1, len(last) - 1))
    with pytest.raises(CodecError):
        frames.unpack(b"".join(map(packed, sent[:-1])) + last[:cut])


@given(st.binary(max_size=200))
def test_random_bytes_are_frames_or_refused(data: bytes) -> None:
    try:
        found = frames.unpack(data)
    except CodecError:
        return
    assert all(isinstance(frame, Frame) for frame in found)


@given(st.binary(min_size=1, max_size=30))
def test_rubbish_after_many_frames_is_refused_or_a_frame(rest: bytes) -> None:
    sent = [Frame(Kind.DATA, 1, 2, seq, b"x") for seq in range(9)]
    try:
        found = frames.unpack(b"".join(map(packed, sent)) + rest)
    except CodecError:
        return
    assert found[:9] == sent


@given(st.lists(ANYTHING, max_size=8))
def test_any_other_array_is_refused_or_has_the_types_of_a_frame(fields: list[Any]) -> None:
    for array in (fields, [frames.VERSION, *fields[:5]]):
        try:
            (frame,) = frames.unpack(msgpack.packb(array))
        except CodecError:
            continue
        assert {type(v) for v in frame[:4]} == {int}


OTHER_SHAPES: list[tuple[Kind, object]] = [
    (Kind.DATA, None),
    (Kind.DATA, "text"),
    (Kind.CLAIM, None),
    (Kind.CLAIM, ("worker", "b.h", "n", "e", "a", 0)),
    (Kind.CLAIM, ("worker", "b.h", "n", "e", "a", "0", True)),
    (Kind.CLAIM, ("worker", "b.h", "n", "e", "a", 0, 1)),
    (Kind.CLAIM, ("", "b.h", "n", "e", "a", 0, True)),
    (Kind.CLAIM, ("provider", "b.h", "n", "e", "a", 0, True)),
    (Kind.START, (200, None)),
    (Kind.START, (100, "a/b")),
    (Kind.START, (2**63, "a/b")),
    (Kind.NOTE, "x"),
    (Kind.NOTE, (("x",),)),
    (Kind.NOTE, (("x", 1),)),
    (Kind.END, (1, 2, 3, 4)),
    (Kind.END, (1, 2, 3, 4.0, 0, 0, 0)),
    (Kind.FAIL, ("code", "why", 1)),
    (Kind.ALIVE, {}),
    # Out of bounds.
    (Kind.CLAIM, ("worker", "h" * 1025 + ".w", "n", "e", "a", 0, False)),
    (Kind.CLAIM, ("worker", "a b.w", "n", "e", "a", 0, False)),
    (Kind.CLAIM, ("worker", "a.b.c", "n", "e", "a", 0, False)),
    (Kind.CLAIM, ("worker", "h", "n", "e", "a", 0, False)),
    (Kind.CLAIM, ("worker", "", "n", "e", "a", 0, False)),
    (Kind.CLAIM, ("worker", "b.h", "n" * 257, "e", "a", 0, False)),
    (Kind.CLAIM, ("worker", "b.h", "n", "e" * 257, "a", 0, False)),
    (Kind.CLAIM, ("worker", "b.h", "n", "e", "a" * 1025, 0, False)),
    (Kind.CLAIM, ("worker", "b.h", "n", "e", "a", -1, False)),
    (Kind.CLAIM, ("worker", "b.h", "n", "e", "a", True, False)),
    (Kind.START, (200, "t" * 501)),
    (Kind.NOTE, (("x", "v" * 1025),)),
    (Kind.NOTE, (("x", "v"),) * 17),
    (Kind.END, (2**31, 0, 0, 0, 0, 0, 0)),
    (Kind.END, (0, 0, 0, -2, 0, 0, 0)),
    (Kind.END, (True, 0, 0, 0, 0, 0, 0)),
    (Kind.FAIL, ("c" * 257, "why", True)),
    (Kind.FAIL, ("code", "w" * 1025, True)),
]


def test_a_body_of_another_shape_is_refused(subtests: pytest.Subtests) -> None:
    for kind, body in OTHER_SHAPES:
        packed = frames.pack(kind, 1, 2, 3, body)
        with subtests.test(f"{kind!r} {body}"), pytest.raises(CodecError, match="does not fit"):
            frames.unpack(packed)


@pytest.mark.parametrize(
    "fields",
    [
        (frames.VERSION + 1, 2, 1, 1, 0, b""),
        (frames.VERSION, 2, 1, 1, 0),
        (frames.VERSION, "2", 1, 1, 0, b""),
        (frames.VERSION, 2, 1, 1, None, b""),
    ],
)
def test_other_versions_and_other_types_are_refused(fields: tuple[object, ...]) -> None:
    with pytest.raises(CodecError):
        frames.unpack(msgpack.packb(fields))


def test_the_kind_of_a_newer_holder_is_let_through() -> None:
    (frame,) = frames.unpack(msgpack.packb((frames.VERSION, 77, 1, 2, 3, {"new": 1})))
    assert frame == Frame(77, 1, 2, 3, None), "a body that nobody reads is not kept"


def test_many_frames_of_one_message_are_not_copied_again_and_again() -> None:
    sent = [Frame(Kind.ALIVE, 1, 2, seq, None) for seq in range(20_000)]
    assert frames.unpack(b"".join(map(packed, sent))) == sent


def test_bodies_are_the_fields_of_their_classes() -> None:
    body = ("fallback", "b.h", "n", "e", "a", 1, True)
    claim = Claim.of(body)
    assert (claim.role, claim.ack, claim.edition) == (Role.FALLBACK, "a", 1)
    assert (claim.by_provider, claim.body) == (True, body)
    assert Start(*(200, "text/event-stream")).status == 200
    assert End(*(1, 2, 3, 4, 5, 6, 7)) == End(1, 2, 3, 4, 5, 6, 7)
    assert Fail(*("c", "m", True)).retryable


@given(st.tuples(*(st.integers(),) * 7))
def test_whatever_an_engine_counts_its_end_is_taken(counts: tuple[int, ...]) -> None:
    (frame,) = frames.unpack(frames.pack(Kind.END, 1, 2, 3, End(*counts).body))
    assert all(-1 <= each < 2**31 for each in frame.body)


@given(st.sampled_from(Op), TEXTS, NUMBERS, NUMBERS, st.binary(max_size=30))
def test_control_comes_back(op: Op, job: str, nonce: int, first: int, given: bytes) -> None:
    sent = frames.pack_control(op, job, nonce, first, given)
    assert frames.unpack_control(sent) == (op, job, nonce, first, given)
    for cut in range(len(sent)):
        with pytest.raises(CodecError):
            frames.unpack_control(sent[:cut])


@given(st.binary(max_size=100))
def test_random_bytes_are_no_control(data: bytes) -> None:
    try:
        control = frames.unpack_control(data)
    except CodecError:
        return
    assert type(control.op) is int


@given(st.lists(ANYTHING, max_size=6))
def test_any_other_array_is_no_control(fields: list[Any]) -> None:
    for array in (fields, [frames.VERSION, *fields[:5]]):
        try:
            control = frames.unpack_control(msgpack.packb(array))
        except CodecError:
            continue
        assert isinstance(control.job, str)


@pytest.mark.parametrize(
    "fields",
    [("4", "j", 1, 2, b""), (4, b"j", 1, 2, b""), (4, "j", 1, None, b""), (4, "j", 1, 2, "")],
)
def test_a_field_of_another_type_is_refused(fields: tuple[object, ...]) -> None:
    with pytest.raises(CodecError, match="wrong type"):
        frames.unpack_control(msgpack.packb((frames.VERSION, *fields)))


@pytest.mark.parametrize(
    "sent", [version_1.CLAIM, version_1.DATA, version_1.CLAIM + version_1.DATA]
)
def test_frames_of_version_1_are_refused(sent: bytes) -> None:
    with pytest.raises(OtherVersion, match="protocol version 1"):
        frames.unpack(sent)


def test_one_frame_of_version_1_spoils_the_message() -> None:
    ours = packed(Frame(Kind.DATA, 1, 2, 0, b"x"))
    with pytest.raises(OtherVersion):
        frames.unpack(ours * 9 + version_1.DATA)


def test_control_of_version_1_is_refused() -> None:
    with pytest.raises(OtherVersion, match="control message of protocol version 1"):
        frames.unpack_control(version_1.GO)
