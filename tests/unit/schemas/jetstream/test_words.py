from __future__ import annotations

import pytest

from schemas.jetstream import words
from schemas.jetstream.words import status_of
from tests.unit.fakes import message


@pytest.mark.parametrize(
    ("data", "headers"),
    [(b"x", None), (b"x", {"Status": "408"}), (b"", {"Nats-Incr": "+1"}), (b"", None)],
    ids=["plain", "a header of its sender", "without data", "empty"],
)
def test_a_message_of_a_stream_is_no_status(data: bytes, headers: dict[str, str] | None) -> None:
    assert status_of(message("s", data, "$JS.ACK.x", headers)) is None


@pytest.mark.parametrize(
    ("code", "expired", "idle"),
    [("100", False, True), ("404", False, False), ("408", True, False), ("409", False, False)],
)
def test_what_the_broker_says_in_its_place(code: str, expired: bool, idle: bool) -> None:
    said = status_of(message("s", headers={"Status": code, "Description": "why"}))
    assert said is not None
    assert (said.code, said.why, said.last, said.asks) == (code, "why", 0, "")
    assert (said.expired, said.idle) == (expired, idle)


@pytest.mark.parametrize(
    ("reply", "more"),
    [("$JS.FC.C.c.x", {}), ("", {"Nats-Consumer-Stalled": "$JS.FC.C.c.x"})],
    ids=["a pause", "a heartbeat while it is stalled"],
)
def test_where_a_stalled_flow_waits_for_its_answer(reply: str, more: dict[str, str]) -> None:
    headers = {"Status": "100", "Nats-Last-Consumer": "7", **more}
    said = status_of(message("s", b"", reply, headers))
    assert said is not None
    assert (said.asks, said.last) == ("$JS.FC.C.c.x", 7)


def test_the_brokers_stamps_are_unix_time() -> None:
    assert words.seconds("2027-01-15T08:00:00.5Z") == 1_800_000_000.5
