"""What is fuzzed, and what messages it begins with.

The codecs are those of `tests/unit/schemas/test_fuzz.py`, with the same checks: there hypothesis
changes messages blindly, a hundred times each.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson

from schemas import multipart
from schemas.api import piecewise, sse
from schemas.multipart import FormError, Part
from tests.unit.schemas import test_fuzz

Check = Callable[[bytes], object]


@dataclass(frozen=True)
class Target:
    """`check` raises nothing for any bytes. `corpus`: what is changed."""

    check: Check
    corpus: Sequence[bytes]


def _codec(test: Any, corpus: Sequence[bytes]) -> Target:
    return Target(test.hypothesis.inner_test, corpus)


def in_pieces(data: bytes) -> None:
    """The first byte says where it is cut. What comes is what orjson gives."""
    text = data[1:]
    reader = piecewise.Reader(text, piece=24 + (data[0] if data else 0) % 40)
    try:
        for _ in reader.pieces():
            pass
    except piecewise.TooDeep:
        return
    except piecewise.NotJson:
        with suppress(orjson.JSONDecodeError):
            assert not orjson.loads(text), "orjson takes it"
            raise
        return
    assert reader.found == orjson.loads(text)


def as_form(data: bytes) -> None:
    with suppress(FormError):
        parts = multipart.parse(data, _FORM)
        body, kind = multipart.plainly(data, _FORM, parts)
        assert len(multipart.parse(body, kind)) == len(parts)


def as_events(data: bytes) -> None:
    """However it is cut, the same events come. An end that is written like no server's is found
    only beside others."""
    if b"[done]" in data.replace(b"[DONE]", b"").lower():
        return
    whole, cut = sse.Splitter(), sse.Splitter()
    once = whole.feed(data) + whole.rest()
    cuts, found, at = random.Random(len(data)), b"", 0
    while at < len(data):
        size = cuts.randrange(1, 9)
        found += cut.feed(data[at : at + size])
        at += size
    # An empty line more between two events is none.
    events = [event.strip(b"\n") for event in sse.split(once)]
    assert [event.strip(b"\n") for event in sse.split(found + cut.rest())] == events
    for event in events:
        sse.typed(event)


_FORM = "multipart/form-data; boundary=x"
_PARTS = [Part("model", b"m"), Part("file", b"\r\n--x", "a.wav", "audio/wav")]
_BODY = multipart.encode(_PARTS)
_MARK = _BODY[1].partition("boundary=")[2].encode()
_TEXTS: Sequence[Any] = (
    {"model": "m", "messages": [{"role": "user", "content": "é\U0001f600" * 9}], "n": 1.5e3},
    [[[]], {"a": {}}, "x" * 99, None, True, -5],
)
_EVENTS = b'\xef\xbb\xbfevent: a\r\ndata: {"a":1}\r\n\r\n: b\n\ndata:x\ndata: y\n\ndata: [DONE]\n\n'

TARGETS: Mapping[str, Target] = {
    "frames": _codec(test_fuzz.test_frames, test_fuzz.FRAMES),
    "jobs": _codec(test_fuzz.test_jobs, test_fuzz.JOBS),
    "control": _codec(test_fuzz.test_control, test_fuzz.CONTROL),
    "cards": _codec(test_fuzz.test_cards, test_fuzz.CARDS),
    "usage": _codec(test_fuzz.test_rows_of_usage, test_fuzz.ROWS),
    "credits": _codec(test_fuzz.test_questions_about_credits, test_fuzz.QUESTIONS),
    "waiting": _codec(test_fuzz.test_who_waits, test_fuzz.WAITING),
    "alerts": _codec(test_fuzz.test_alerts, test_fuzz.ALERTS),
    "limits": _codec(test_fuzz.test_records_of_limits, test_fuzz.LIMITS),
    "gossip": _codec(test_fuzz.test_what_ingresses_say_of_queues, test_fuzz.GOSSIP),
    "ranks": _codec(test_fuzz.test_ranks, test_fuzz.RANKS),
    "json": Target(in_pieces, [b"\0" + orjson.dumps(each) for each in _TEXTS]),
    "forms": Target(as_form, [_BODY[0].replace(_MARK, b"x")]),
    "events": Target(as_events, [_EVENTS]),
}
