from __future__ import annotations

import re

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from schemas import bounds, subjects

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


@given(NAMES, LANES, NAMES)
def test_a_jobs_subject_names_model_lane_and_tenant(model: str, lane: str, tenant: str) -> None:
    subject = subjects.jobs(model, lane, tenant)
    assert subject.count(".") == 3
    assert subjects.parse_jobs(subject) == (model, lane, tenant)
    pattern = subjects.of_all_tenants(subject)
    assert pattern == subjects.all_jobs(model, lane)
    assert subjects.parse_jobs(pattern) == (model, lane, "")


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
        shortened = subjects.consumer("m" * length, "i").removesuffix("-i4")
        try:
            spelled = subjects.decode(shortened)
        except ValueError:
            continue
        assert subjects.consumer(spelled, "i") != subjects.consumer("m" * length, "i")


@given(st.integers(1, 10**6), st.integers(1, 2**63))
def test_turn_of_an_ack_subject(delivered: int, sequence: int) -> None:
    tail = f"JOBS.echo-i4.{delivered}.{sequence}.{sequence}.1700000000000000000.0"
    assert subjects.turn_of(f"$JS.ACK.{tail}") == (sequence, delivered)
    assert subjects.turn_of(f"$JS.ACK.hub.ACCHASH.{tail}.rAnD0m") == (sequence, delivered)
    assert subjects.turn_of(f"$JS.ACK._.ACCHASH.{tail}.rAnD0m") == (sequence, delivered)


@pytest.mark.parametrize("ack", ["", "x", "$JS.ACK.JOBS.echo-i4.one.2.3.4.5", "a.b.c.d.e.f"])
def test_what_is_no_ack_subject_raises(ack: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        subjects.turn_of(ack)


def test_only_the_ack_subject_of_a_job_is_one() -> None:
    tail = "echo-i4.1.2.3.1700000000000000000.0"
    assert subjects.is_ack(f"$JS.ACK.JOBS.{tail}")
    assert subjects.is_ack(f"$JS.ACK.hub.ACCHASH.JOBS.{tail}.rAnD0m")
    for other in ("", "$JS.ACK", f"$JS.ACK.USAGE.{tail}", "$JS.API.STREAM.PURGE.JOBS", "usage.x"):
        assert not subjects.is_ack(other)


def test_the_name_of_a_holder_begins_with_its_node() -> None:
    made = subjects.holder("box 1.lan", "0a1b")
    assert (made, subjects.home_of(made)) == ("box=201,lan.0a1b", subjects.encode("box 1.lan"))
    assert bounds.is_holder(made)
    for other in ("", "w", ".w", "w.", "a.b.c", "a.*", "a b.c", "n" * 1025 + ".w", None, 5):
        assert not bounds.is_holder(other)


def test_a_lane_may_be_that_of_one_node() -> None:
    lane = subjects.pinned("box.lan")
    assert subjects.jobs("m", lane, "a") == "jobs.m.n-box,lan4.a"
    assert subjects.parse_jobs("jobs.m.n-box,lan4.a")[1] == lane
    assert subjects.consumer("m", lane) == "m-n-box,lan4"


def test_lanes_of_another_version_are_told_apart() -> None:
    assert subjects.parse_jobs("jobs.echo.i4.a") == ("echo", "i", "a")
    for lane in ("i", "i3"):
        earlier = f"jobs.echo.{lane}"
        assert subjects.parse_jobs(earlier) == ("echo", f"{lane} of another version", "")
        assert subjects.of_all_tenants(earlier) == earlier


def test_a_job_is_found_in_its_subjects() -> None:
    for made in (subjects.frames("in-1", "box.w", "abc"), subjects.body("in-1", "box.w", "abc")):
        assert (subjects.job_of(made), subjects.sender_of(made)) == ("abc", "box")
    assert subjects.ingress_of(subjects.frames("in-1", "box.w", "abc")) == "in-1"
    assert subjects.answered(subjects.answer("in-1", "abc", 3)) == ("abc", 3)
    with pytest.raises(ValueError, match="int"):
        subjects.answered(subjects.frames("in-1", "box.w", "abc"))
    assert subjects.holder_of(subjects.control("box.w")) == "box.w"


def test_each_kind_of_subject_has_a_space_of_its_own() -> None:
    made = [
        subjects.jobs("m", "i", "a"),
        subjects.frames("in-1", "box.w", "j"),
        subjects.body("in-1", "box.w", "j"),
        subjects.control("h"),
        subjects.card("h"),
        subjects.want("m"),
        subjects.dead("m"),
        subjects.node("n"),
        subjects.invite("i"),
        subjects.join("i"),
        subjects.rotation("n"),
    ]
    assert len({subject.partition(".")[0] for subject in made}) == len(made)


def test_place_of_an_ack_subject() -> None:
    tail = "CREDITS.c.1.7.3.1800000000000000001.4"
    assert subjects.place_of(f"$JS.ACK.{tail}") == (7, 1800000000000000001)
    assert subjects.place_of(f"$JS.ACK.hub.ACCHASH.{tail}.rAnD0m") == (7, 1800000000000000001)
    with pytest.raises((ValueError, IndexError)):
        subjects.place_of("$JS.ACK.x")


@given(NAMES, st.one_of(NAMES, LONG))
def test_the_lane_of_a_node_names_it(model: str, node: str) -> None:
    lane = subjects.pinned(node)
    assert subjects.node_of(lane) == node
    assert subjects.is_pinned(lane)
    assert subjects.parse_jobs(subjects.jobs(model, lane, "a")) == (model, lane, "a")
    assert subjects.lane_name(lane) == f"pinned to {node}"
    assert subjects.lane_kind(lane) == "pinned"
    assert len(subjects.consumer(model, lane)) <= 255


@given(st.one_of(NAMES, LONG), st.one_of(NAMES, LONG))
def test_no_two_nodes_share_a_consumer(one: str, other: str) -> None:
    assume(one != other)
    names = [subjects.consumer("m", subjects.pinned(node)) for node in (one, other)]
    assert names[0] != names[1]


def test_other_lanes_are_no_nodes() -> None:
    assert [subjects.node_of(lane) for lane in subjects.LANES] == ["", "", ""]
    assert subjects.lane_name(subjects.BATCH) == subjects.lane_kind(subjects.BATCH) == "batch"
