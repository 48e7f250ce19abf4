from __future__ import annotations

import dataclasses
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import jobs
from schemas.jobs import CodecError, Job, OtherVersion
from tests.unit import fakes, version_1

TEXTS = st.text(max_size=40)
TIMES = st.integers(0, 2**53 - 1)
TOKENS = st.from_regex(r"[A-Za-z0-9_,~=-]{1,40}", fullmatch=True)
JOBS = st.builds(
    Job,
    id=TOKENS, ingress=TOKENS, lane=TEXTS, model=TEXTS, asked=TEXTS, endpoint=TEXTS,
    arrived=TIMES, claim_by=TIMES, first_by=TIMES, total_by=TIMES,
    stream=st.booleans(), account=TEXTS, key=TEXTS, content_type=TEXTS,
    body=st.binary(max_size=200), body_size=st.integers(0, 2**31),
    edition=st.integers(0, 2**31), lenient=st.booleans(), local=st.booleans(),
    together=st.integers(1, 256), route=TEXTS,
    begun=st.none() | st.builds(jobs.Begun, st.integers(0, 2**31 - 1), TEXTS, TEXTS),
)  # fmt: skip


@given(JOBS)
def test_a_job_comes_back_as_it_was(job: Job) -> None:
    assert jobs.unpack(job.pack()) == job


@given(JOBS, st.data())
def test_a_job_that_was_cut_or_has_a_tail_is_refused(job: Job, data: st.DataObject) -> None:
    packed = job.pack()
    with pytest.raises(CodecError):
        jobs.unpack(packed[: data.draw(st.integers(0, len(packed) - 1))])
    with pytest.raises(CodecError):
        jobs.unpack(packed + b"\x00")


@given(st.binary(max_size=300))
def test_random_bytes_are_no_job(data: bytes) -> None:
    with pytest.raises(CodecError):
        jobs.unpack(data)


ANYTHING = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | TEXTS | st.binary()


@given(JOBS, st.integers(0, 21), ANYTHING | st.lists(ANYTHING) | st.dictionaries(TEXTS, ANYTHING))
def test_a_field_of_another_type_is_refused(job: Job, index: int, value: Any) -> None:
    fields = [jobs.VERSION, *dataclasses.astuple(job)]
    if type(fields[index]) is type(value) and (index or value == jobs.VERSION):
        return
    if index == 21 and value is None:
        return
    fields[index] = value
    with pytest.raises(CodecError):
        jobs.unpack(msgpack.packb(fields))


@pytest.mark.parametrize(
    "begun", [(1, "a"), ("1", "a", "b"), (1, b"a", ""), (1, "a", 2), (), {}, "1:a", True]
)
def test_what_was_begun_is_a_number_a_text_and_thoughts(begun: object) -> None:
    fields = [jobs.VERSION, *dataclasses.astuple(fakes.job())]
    fields[-1] = begun
    with pytest.raises(CodecError, match="begun"):
        jobs.unpack(msgpack.packb(fields))


@pytest.mark.parametrize("bad", [{"edition": -1}, {"together": 0}, {"together": 257}])
def test_numbers_have_bounds(bad: dict[str, int]) -> None:
    """A count that was made up would make as many ids."""
    with pytest.raises(CodecError, match="out of bounds"):
        jobs.unpack(fakes.job(**bad).pack())


BAD: list[dict[str, Any]] = [
    {"ingress": "i" * 257},
    {"ingress": "a.b"},
    {"ingress": ""},
    {"id": "*"},
    {"id": "a b\r\n"},
    {"model": "m" * 1025},
    {"asked": "m" * 1025},
    {"lane": "n" * 1025},
    {"account": "a" * 257},
    {"content_type": "t" * 1025},
    {"total_by": 2**53},
    {"arrived": -1},
    {"edition": 2**53},
    {"begun": jobs.Begun(2**31, "x")},
]


def test_texts_and_numbers_have_bounds(subtests: pytest.Subtests) -> None:
    """They become subjects and headers, and the broker closes the connection of whoever sends one
    that is too long."""
    for bad in BAD:
        with subtests.test(f"{bad!r:.60}"), pytest.raises(CodecError, match="not a job"):
            jobs.unpack(fakes.job(**bad).pack())


def test_jobs_of_one_request_know_the_ids_of_all() -> None:
    ids = [jobs.one_of("0" * 30, number) for number in range(3)]
    assert {len(id) for id in ids} == {32}
    for id in ids:
        assert fakes.job(id=id, together=3).ids == tuple(ids)
    assert fakes.job().ids == (fakes.job().id,)


@pytest.mark.parametrize("version", [1, 2, 3, 5, 2**40])
def test_another_version_is_refused_by_its_number(version: int) -> None:
    """However many fields it has there."""
    for fields in (dataclasses.astuple(fakes.job()), ("id",), ()):
        with pytest.raises(OtherVersion, match=f"protocol version {version}, .* speaks 4") as found:
            jobs.unpack(msgpack.packb((version, *fields)))
        assert found.value.version == version


def test_a_job_of_version_1_is_refused() -> None:
    with pytest.raises(OtherVersion):
        jobs.unpack(version_1.JOB)


def test_a_body_travels_untouched() -> None:
    body = b'{ "odd":\t1e400, "emoji":"\xf0\x9f\x92\xa1" }\n'
    assert jobs.unpack(fakes.job(body=body).pack()).body == body


@pytest.mark.parametrize("size", [-1, 2**31 + 1, 2**62])
def test_a_body_that_cannot_be_is_refused(size: int) -> None:
    """A worker asks for it in pieces, all of which it lists beforehand."""
    with pytest.raises(CodecError, match="body"):
        jobs.unpack(fakes.job(body=b"", body_size=size).pack())
