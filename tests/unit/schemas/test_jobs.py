from __future__ import annotations

import dataclasses
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import jobs
from schemas.jobs import CodecError, Job
from tests.unit import fakes

TEXTS = st.text(max_size=40)
TIMES = st.integers(0, 2**53)
JOBS = st.builds(
    Job,
    id=TEXTS, ingress=TEXTS, lane=TEXTS, model=TEXTS, endpoint=TEXTS,
    arrived=TIMES, claim_by=TIMES, first_by=TIMES, total_by=TIMES,
    stream=st.booleans(), account=TEXTS, key=TEXTS, content_type=TEXTS,
    body=st.binary(max_size=200), body_size=st.integers(0, 2**31),
    tags=st.lists(st.tuples(TEXTS, TEXTS), max_size=3).map(tuple),
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


@given(JOBS, st.integers(0, 16), ANYTHING | st.lists(ANYTHING) | st.dictionaries(TEXTS, ANYTHING))
def test_a_field_of_another_type_is_refused(job: Job, index: int, value: Any) -> None:
    fields = [jobs.VERSION, *dataclasses.astuple(job)]
    fits = type(fields[index]) is type(value) and (index or value == jobs.VERSION)
    if fits or (index == 16 and value == []):
        return
    if index == 0 and value == jobs.VERSION:  # True is 1 in Python
        return
    fields[index] = value
    with pytest.raises(CodecError):
        jobs.unpack(msgpack.packb(fields))


@pytest.mark.parametrize("tags", [("a",), (("a",),), (("a", 1),), (("a", "b", "c"),), ({},)])
def test_tags_are_pairs_of_texts(tags: object) -> None:
    fields = [jobs.VERSION, *dataclasses.astuple(fakes.job())]
    fields[-1] = tags
    with pytest.raises(CodecError, match="wrong type"):
        jobs.unpack(msgpack.packb(fields))


def test_another_version_is_refused() -> None:
    fields = [jobs.VERSION + 1, *dataclasses.astuple(fakes.job())]
    with pytest.raises(CodecError, match="version 1"):
        jobs.unpack(msgpack.packb(fields))


def test_a_body_travels_untouched() -> None:
    body = b'{ "odd":\t1e400, "emoji":"\xf0\x9f\x92\xa1" }\n'
    assert jobs.unpack(fakes.job(body=body).pack()).body == body


@pytest.mark.parametrize("size", [-1, 2**31 + 1, 2**62])
def test_a_body_that_cannot_be_is_refused(size: int) -> None:
    """A worker asks for it in pieces, all of which it lists beforehand."""
    with pytest.raises(CodecError, match="body"):
        jobs.unpack(fakes.job(body=b"", body_size=size).pack())
