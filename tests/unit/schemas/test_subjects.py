from __future__ import annotations

import re

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from schemas import subjects

NAMES = st.text(st.characters(), min_size=1, max_size=80)
"""Any code point, surrogates too."""
LONG = st.text(st.characters(), min_size=100, max_size=256)
TOKEN = re.compile(r"[A-Za-z0-9_,~=-]+")
LANES = st.sampled_from([subjects.INTERACTIVE, subjects.BATCH])


@given(NAMES)
@example("\ud800")
@example("\udcff=FF")
@example(".:,~= *>")
def test_any_name_comes_back(name: str) -> None:
    assert subjects.decode(subjects.encode(name)) == name


@given(NAMES)
def test_a_token_has_nothing_that_means_something_to_the_broker(name: str) -> None:
    assert TOKEN.fullmatch(subjects.encode(name))


@given(NAMES, NAMES)
def test_no_two_names_share_a_token(one: str, other: str) -> None:
    assume(one != other)
    assert subjects.encode(one) != subjects.encode(other)


@pytest.mark.parametrize(
    ("name", "token"),
    [
        ("llama-3.1-8b", "llama-3,1-8b"),
        ("qwen2.5:7b-instruct_q4", "qwen2,5~7b-instruct_q4"),
        ("Qwen/Qwen3", "Qwen=2FQwen3"),
        ("ä", "=C3=A4"),
    ],
)
def test_usual_names_stay_readable(name: str, token: str) -> None:
    assert subjects.encode(name) == token


def test_the_empty_name_is_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        subjects.encode("")


@given(NAMES, LANES)
def test_a_jobs_subject_names_model_and_lane(model: str, lane: str) -> None:
    subject = subjects.jobs(model, lane)
    assert subject.count(".") == 2
    assert subjects.parse_jobs(subject) == (model, lane)


@given(st.one_of(NAMES, LONG), LANES)
def test_a_consumers_name_fits_into_a_file_name(model: str, lane: str) -> None:
    name = subjects.consumer(model, lane)
    assert len(name.encode()) <= 255
    assert TOKEN.fullmatch(name)


@given(st.one_of(NAMES, LONG), st.one_of(NAMES, LONG), LANES, LANES)
def test_consumers_of_two_models_or_lanes_differ(
    one: str, other: str, one_lane: str, other_lane: str
) -> None:
    assume((one, one_lane) != (other, other_lane))
    assert subjects.consumer(one, one_lane) != subjects.consumer(other, other_lane)


@given(st.text("ab", min_size=150, max_size=170), st.text("ab", min_size=150, max_size=170))
def test_long_names_with_a_common_beginning_keep_apart(one: str, other: str) -> None:
    assume(one != other)
    assert subjects.consumer("x" * 100 + one, "i") != subjects.consumer("x" * 100 + other, "i")


def test_no_name_can_spell_the_consumer_of_another() -> None:
    for length in range(161, 261):
        shortened = subjects.consumer("m" * length, "i").removesuffix("-i3")
        try:
            spelled = subjects.decode(shortened)
        except ValueError:
            continue
        assert subjects.consumer(spelled, "i") != subjects.consumer("m" * length, "i")


@given(st.integers(1, 10**6), st.integers(1, 2**63))
def test_turn_of_an_ack_subject(delivered: int, sequence: int) -> None:
    tail = f"JOBS.echo-i3.{delivered}.{sequence}.{sequence}.1700000000000000000.0"
    assert subjects.turn_of(f"$JS.ACK.{tail}") == (sequence, delivered)
    assert subjects.turn_of(f"$JS.ACK.hub.ACCHASH.{tail}.rAnD0m") == (sequence, delivered)
    assert subjects.turn_of(f"$JS.ACK._.ACCHASH.{tail}.rAnD0m") == (sequence, delivered)


@pytest.mark.parametrize("ack", ["", "x", "$JS.ACK.JOBS.echo-i3.one.2.3.4.5", "a.b.c.d.e.f"])
def test_what_is_no_ack_subject_raises(ack: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        subjects.turn_of(ack)


def test_only_the_ack_subject_of_a_job_is_one() -> None:
    tail = "echo-i3.1.2.3.1700000000000000000.0"
    assert subjects.is_ack(f"$JS.ACK.JOBS.{tail}")
    assert subjects.is_ack(f"$JS.ACK.hub.ACCHASH.JOBS.{tail}.rAnD0m")
    for other in ("", "$JS.ACK", f"$JS.ACK.USAGE.{tail}", "$JS.API.STREAM.PURGE.JOBS", "usage.x"):
        assert not subjects.is_ack(other)


def test_only_who_holds_jobs_has_an_inbox() -> None:
    assert subjects.is_inbox("_W.w-1.p.0")
    assert subjects.is_inbox("_F.f-1.x")
    for other in ("", "_W", "_Wx.y", "_I.in-1.x", "fb.ledger", "$JS.API.STREAM.DELETE.JOBS"):
        assert not subjects.is_inbox(other)


def test_lanes_of_another_version_are_told_apart() -> None:
    assert subjects.parse_jobs("jobs.echo.i3") == ("echo", "i")
    assert subjects.parse_jobs("jobs.echo.i") == ("echo", "i of another version")


def test_a_job_is_found_in_its_subjects() -> None:
    assert subjects.job_of(subjects.frames("in-1", "abc")) == "abc"
    assert subjects.job_of(subjects.body("in-1", "abc")) == "abc"
    assert subjects.answered(subjects.answer("in-1", "abc", 3)) == ("abc", 3)
    with pytest.raises(ValueError, match="int"):
        subjects.answered(subjects.frames("in-1", "abc"))
    assert subjects.holder_of(subjects.control("w-1")) == "w-1"


def test_each_kind_of_subject_has_a_space_of_its_own() -> None:
    made = [
        subjects.jobs("m", "i"),
        subjects.frames("in-1", "j"),
        subjects.body("in-1", "j"),
        subjects.control("h"),
        subjects.card("h"),
        subjects.want("m"),
        subjects.dead("m"),
    ]
    assert len({subject.partition(".")[0] for subject in made}) == len(made)


def test_place_of_an_ack_subject() -> None:
    tail = "CREDITS.c.1.7.3.1800000000000000001.4"
    assert subjects.place_of(f"$JS.ACK.{tail}") == (7, 1800000000000000001)
    assert subjects.place_of(f"$JS.ACK.hub.ACCHASH.{tail}.rAnD0m") == (7, 1800000000000000001)
    with pytest.raises((ValueError, IndexError)):
        subjects.place_of("$JS.ACK.x")
