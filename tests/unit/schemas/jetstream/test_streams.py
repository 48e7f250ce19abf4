from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from schemas import topology
from schemas.bus import ApiError, BusError, Message, NotFound
from schemas.jetstream import streams
from schemas.settings import Jobs
from tests.unit.fakes import FakeBus, message

JOBS, DEAD = topology.streams(Jobs(), 1)[:2]
STAMP = "2027-01-15T08:00:00Z"


def answers(*pages: Any) -> Callable[[str, Any], dict[str, Any]]:
    """One after the other, whatever is asked; a fault is raised."""
    left = list(pages)

    def answer(verb: str, body: Any) -> dict[str, Any]:
        page = left.pop(0)
        if isinstance(page, BusError):
            raise page
        return dict(page)

    return answer


async def test_streams_are_made_mended_or_left(bus: FakeBus) -> None:
    have = {**DEAD, "max_age": 1, "broker_default": True}
    bus.api_answer = answers(NotFound("JOBS", {}), {}, {"config": have}, {})
    await streams.ensure(bus, [JOBS, DEAD])
    assert [verb for verb, _ in bus.api_calls] == [
        "STREAM.INFO.JOBS", "STREAM.CREATE.JOBS", "STREAM.INFO.DEAD", "STREAM.UPDATE.DEAD",
    ]  # fmt: skip
    assert bus.api_calls[1][1] == JOBS
    assert bus.api_calls[3][1] == {**DEAD, "broker_default": True}

    bus.api_calls.clear()
    bus.api_answer = answers({"config": {**JOBS, "more": 1}}, {"config": {**DEAD, "more": 1}})
    await streams.ensure(bus, [JOBS, DEAD])
    assert [verb for verb, _ in bus.api_calls] == ["STREAM.INFO.JOBS", "STREAM.INFO.DEAD"]


async def test_a_stream_that_cannot_be_asked_for_is_a_fault(bus: FakeBus) -> None:
    bus.api_answer = answers(ApiError("JOBS", {}))
    with pytest.raises(ApiError):
        await streams.ensure(bus, [JOBS, DEAD])
    assert len(bus.api_calls) == 1


async def test_a_consumer_is_made_under_its_name(bus: FakeBus) -> None:
    await streams.ensure_consumer(bus, "JOBS", topology.consumer("m", "i", 3, 1))
    ((verb, body),) = bus.api_calls
    assert verb == "CONSUMER.CREATE.JOBS.m-i4"
    assert (body["stream_name"], body["config"]["name"]) == ("JOBS", "m-i4")


async def test_counts_come_page_by_page(bus: FakeBus) -> None:
    def page(found: dict[str, int] | None) -> dict[str, Any]:
        return {"state": {"subjects": found}, "total": 3, "ts": STAMP}

    bus.api_answer = answers(page({"a.1": 2, "a.2": 1}), page({"a.3": 5}))
    assert await streams.counts(bus, "S", "a.*") == (
        {"a.1": 2, "a.2": 1, "a.3": 5}, 1_800_000_000.0,
    )  # fmt: skip
    assert bus.api_calls == [
        ("STREAM.INFO.S", {"subjects_filter": "a.*", "offset": 0}),
        ("STREAM.INFO.S", {"subjects_filter": "a.*", "offset": 2}),
    ]
    bus.api_answer = answers(page({"a.1": 2}), page(None))
    assert (await streams.counts(bus, "S", "a.*"))[0] == {"a.1": 2}, "two have gone meanwhile"


async def test_consumers_come_page_by_page(bus: FakeBus) -> None:
    bus.api_answer = answers(
        {"consumers": [{"name": "a"}, {"name": "b"}], "total": 3},
        {"consumers": [{"name": "c"}], "total": 3},
    )
    assert [each["name"] for each in await streams.consumers(bus, "S")] == ["a", "b", "c"]
    assert bus.api_calls[1] == ("CONSUMER.LIST.S", {"offset": 2})
    bus.api_answer = answers({"consumers": None, "total": 3})
    assert await streams.consumers(bus, "S") == []


async def test_one_message_by_what_is_known_of_it(bus: FakeBus) -> None:
    bus.api_answer = answers({"message": {"seq": 4}})
    assert await streams.stored(bus, "S", last_by_subj="a.1") == {"seq": 4}
    assert bus.api_calls == [("STREAM.MSG.GET.S", {"last_by_subj": "a.1"})]


@pytest.mark.parametrize(
    ("headers", "found"), [({"Nats-Sequence": "7"}, (7, b"x")), ({"Status": "404"}, None)]
)
async def test_the_newest_of_a_subject(
    bus: FakeBus, headers: dict[str, str], found: tuple[int, bytes] | None
) -> None:
    async def answer(subject: str, _: bytes) -> Message:
        assert subject == "$JS.API.DIRECT.GET.S.a.1"
        return message("_", b"x" if found else b"", "", headers)

    bus.answer = answer
    assert await streams.newest(bus, "S", "a.1", 1.0) == found
