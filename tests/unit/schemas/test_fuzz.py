"""Every codec against mutated messages: it raises no exception but its own, and what it takes can
be used: as a subject, a header, a number in a sum, and again as a message."""

from __future__ import annotations

from contextlib import suppress

import orjson
from hypothesis import given
from hypothesis import strategies as st

from fallback.credits import admin, grants
from ingress.jobs import gossip
from ingress.models.catalog import Catalog
from schemas import (
    alerts,
    bounds,
    frames,
    jobs,
    limits,
    nodes,
    ranks,
    subjects,
    tally,
    usage,
    waiting,
)
from schemas.client import LINE
from schemas.frames import Claim, End, Kind, Op
from schemas.jobs import Begun, CodecError
from schemas.nodes import LAST_RANK, Ignored, ServedModel
from schemas.ranks import Rank
from schemas.usage import Served
from tests.unit import fakes
from tests.unit.schemas.mutations import packed, written

ACK = "$JS.ACK.JOBS.echo-i4.1.5.9.1700000000000000000.0"
ANSWER: list[tuple[Kind, object]] = [
    (Kind.CLAIM, ("worker", "node.w", "node", "engine", ACK, 0, True)),
    (Kind.START, (200, "text/event-stream; charset=utf-8")),
    (Kind.DATA, b'data: {"choices":[]}\n\n'),
    (Kind.ALIVE, True),
    (Kind.NOTE, (("x-headrace-served-by", "provider:one"), ("x-headrace-cost", "0.1 USD"))),
    (Kind.END, End(5, 6, 0, 120).body),
    (Kind.FAIL, ("engine_failed", "the engine is gone", True)),
]
"""What a holder says of one job, in all its kinds."""
KINDS = frozenset(map(int, Kind))
FRAMES = [frames.pack(kind, 1, 2**55, seq, body) for seq, (kind, body) in enumerate(ANSWER)]
JOBS = [
    fakes.job().pack(),
    fakes.job(edition=3, together=8, route="r", begun=Begun(7, "so far", "thought")).pack(),
]
CONTROL = [frames.pack_control(op, "0" * 32, 2**55, 3) for op in Op]
CARDS = [
    fakes.card("node.w", "m", "n").pack(),
    fakes.card(
        "node.w-2",
        models=(
            ServedModel(
                "m", "e", "vllm", 4, 8192, ("text",), ("chat", "n"),
                (Ignored("n", "one", ("chat",), (1,)),), ("chat min_p",),
            ),
        ),
    ).pack(),
]  # fmt: skip
ROWS = [usage.pack([Served("2026-11-29", "a", "k", "m", "n", 1, 2, 3, 0, 0.5)] * 2)]
WAITING = [waiting.pack("in-1", [waiting.Waiting("m", "i", "a", 3, 1.5)])]
ALERTS = [alerts.Alert(alerts.Budget("b", "a", "k", "2026-11", 8, 10, "tokens"), 80, 1.5).pack()]
LIMITS = [
    limits.Record(
        {"requests": {99: 1, 120: 2}}, {"in-1": limits.Row("in-1", 1, 2, {"x": 3}, 4, {"y": 5})}
    ).pack()
]
RANKS = [ranks.pack([Rank("engine", "m", 0), Rank("engine", "n", LAST_RANK)])]
GOSSIP = [
    gossip.Standing("in-1", 1, 0.5, "a", 0.5, True, "b", 1.5).pack(),
    gossip.Offer("in-1", "m", "i", "a", 0.5, True, "0" * 32, FRAMES[0]).pack(),
    gossip.Answer(5, True).pack(),
]
QUESTIONS = [
    b'{"op":"show","account":"a"}',
    b'{"op":"grant","account":"a","amount":5,"note":"n","id":"i","by":"k"}',
    b'{"op":"history","account":"a","limit":100,"since":1.5}',
    b'{"op":"usage","by":["day"],"account":"a","since":0}',
]


def as_line(subject: str) -> None:
    """The broker takes it."""
    assert subject.isascii()
    assert subject.isprintable()
    assert " " not in subject
    assert len(subject) <= LINE


def of_any(corpus: list[bytes], mutate: object) -> st.SearchStrategy[bytes]:
    return st.sampled_from(corpus).flatmap(mutate)  # type: ignore[arg-type]


@given(of_any(FRAMES, packed))
def test_frames(data: bytes) -> None:
    try:
        found = frames.unpack(data)
    except CodecError:
        return
    for frame in found:
        if frame.kind not in KINDS:
            assert frame.body is None, "nobody reads it"
            continue
        assert frames.unpack(frames.pack(Kind(frame.kind), *frame[1:])) == [frame]
        if frame.kind == Kind.CLAIM:
            claim = Claim.of(frame.body)
            as_line(subjects.control(claim.holder))
            assert len(frames.pack_control(Op.GO, "0" * 32, frame.nonce)) < 2**10
        elif frame.kind == Kind.END:
            assert max(frame.body) < 2**31


@given(of_any(JOBS, packed))
def test_jobs(data: bytes) -> None:
    try:
        job = jobs.unpack(data)
    except CodecError:
        return
    as_line(subjects.frames(job.ingress, "n" * 1024 + ".w", job.id))
    as_line(subjects.body(job.ingress, "n" * 1024 + ".w", job.id))
    assert jobs.unpack(job.pack()) == job


@given(of_any(CONTROL, packed))
def test_control(data: bytes) -> None:
    try:
        control = frames.unpack_control(data)
    except CodecError:
        return
    assert len(control.job) <= bounds.NAME


@given(of_any(CARDS, written))
def test_cards(data: bytes) -> None:
    try:
        card = nodes.unpack(data)
    except CodecError:
        return
    as_line(subjects.control(card.holder))
    for model in card.models:
        as_line(subjects.jobs(model.id, "i", "a" * 64) + subjects.answer("in-1", "0" * 32, 5))
        as_line(subjects.dead(model.id))
        assert model.has("chat") in (True, False)
        for each in model.ignores:
            each.wanted({"n": 2, "text": {"verbosity": "low"}})
    catalog = Catalog(lambda: 0.0)
    catalog.hear(card)
    assert all(catalog.slots(model) < 2**32 for model in catalog.known())
    assert orjson.dumps({"slots": [catalog.slots(model) for model in catalog.known()]})


@given(of_any(ROWS, written))
def test_rows_of_usage(data: bytes) -> None:
    try:
        rows = usage.unpack(data)
    except CodecError:
        return
    sums = tally.Tally(tally.Question(("node",), 0.0, tally.FOREVER, "", ""))
    for row in rows * 3:
        sums.served(row, 1.0)
    assert orjson.dumps([sums.rows(), sums.total()])


@given(of_any(QUESTIONS, written))
def test_questions_about_credits(data: bytes) -> None:
    try:
        asked = admin.question(data)
    except ValueError:
        return
    assert len(subjects.credits(asked.get("account") or "x")) <= LINE
    with suppress(ValueError, KeyError):
        assert abs(grants.read(asked)[1]) <= bounds.WHOLE


@given(of_any(WAITING, written))
def test_who_waits(data: bytes) -> None:
    try:
        ingress, rows = waiting.unpack(data)
    except CodecError:
        return
    as_line(subjects.control(ingress))
    assert orjson.dumps(waiting.summed([*rows, *rows]))


@given(of_any(ALERTS, written))
def test_alerts(data: bytes) -> None:
    try:
        alert = alerts.unpack(data)
    except CodecError:
        return
    assert alerts.unpack(alert.pack()) == alert


@given(of_any(LIMITS, packed))
def test_records_of_limits(data: bytes) -> None:
    try:
        record = limits.unpack(data)
    except CodecError:
        return
    assert limits.unpack(record.pack()).month == record.month


@given(of_any(GOSSIP, packed))
def test_what_ingresses_say_of_queues(data: bytes) -> None:
    for read in (gossip.standing, gossip.said):
        with suppress(CodecError):
            read(data)


@given(of_any(RANKS, packed))
def test_ranks(data: bytes) -> None:
    try:
        told = ranks.unpack(data)
    except CodecError:
        return
    assert ranks.unpack(ranks.pack(told)) == told
    assert all(0 <= each.rank <= LAST_RANK for each in told)


def test_the_corpus_is_taken_as_it_is() -> None:
    for data in FRAMES:
        assert len(frames.unpack(data)) == 1
    for data in JOBS:
        assert jobs.unpack(data)
    for data in CONTROL:
        assert frames.unpack_control(data)
    for data in CARDS:
        assert nodes.unpack(data).models
    for data in RANKS:
        assert len(ranks.unpack(data)) == 2
    for data in ROWS:
        assert len(usage.unpack(data)) == 2
    for data in QUESTIONS:
        assert admin.question(data)
