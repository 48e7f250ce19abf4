"""What is said to join comes as it was said, and nothing else is heeded."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.nodes import exchange
from deploy.nodes.exchange import Answer, Ask
from schemas import nkeys
from schemas.jobs import CodecError

PUBLIC = nkeys.of(bytes(32)).public


@given(st.floats(0, 2**40), st.sampled_from(["", PUBLIC]), st.text(max_size=40))
def test_a_question_comes_back(clock: float, second: str, version: str) -> None:
    ask = Ask(PUBLIC, clock, second, version)
    assert exchange.unpack_ask(ask.pack()) == ask


@given(st.floats(0, 2**40), st.sampled_from(["worker", "ingress", "fallback"]))
def test_an_answer_comes_back(clock: float, role: str) -> None:
    for answer in (Answer(clock, "box", role), Answer(clock, code="used", message="ask again")):
        assert exchange.unpack_answer(answer.pack()) == answer


@given(st.binary(max_size=200))
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        exchange.unpack_ask(data)
    with pytest.raises(CodecError):
        exchange.unpack_answer(data)


@pytest.mark.parametrize(
    "said",
    [
        {"nkey": "UAAA", "clock": 1},
        {"nkey": PUBLIC},
        {"nkey": PUBLIC, "clock": True},
        {"nkey": PUBLIC, "clock": -1},
        {"nkey": PUBLIC, "clock": 1, "second_nkey": "S" + PUBLIC[1:]},
        {"nkey": PUBLIC, "clock": 1, "version": "x" * 2000},
        [],
        None,
    ],
)
def test_no_question(said: object) -> None:
    with pytest.raises(CodecError):
        exchange.unpack_ask(orjson.dumps(said))


def test_no_answer() -> None:
    for said in ({"clock": 1}, {"clock": 1, "name": "a", "role": "king"}, {"name": "a"}):
        with pytest.raises(CodecError):
            exchange.unpack_answer(orjson.dumps(said))
    with pytest.raises(CodecError):
        exchange.unpack_answer(b" " * 20_000)


def test_fields_of_later_releases_are_passed_over() -> None:
    said = {"nkey": PUBLIC, "clock": 1, "colour": "red"}
    assert exchange.unpack_ask(orjson.dumps(said)) == Ask(PUBLIC, 1.0)


@pytest.mark.parametrize(
    ("off", "said"),
    [(0, ""), (299, ""), (-299, ""), (3600, "60 min ahead of"), (-3600, "60 min behind"),
     (-86_400, "24 h behind"), (864_000, "10 days ahead")],
)  # fmt: skip
def test_clocks(off: float, said: str) -> None:
    found = exchange.wrong_clock(1e9 + off, 1e9)
    assert said in found
    assert bool(found) is bool(said)
