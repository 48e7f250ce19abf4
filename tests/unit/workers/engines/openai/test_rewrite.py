"""Events that are changed on their way."""

from __future__ import annotations

import pytest

from schemas.api.base import Event
from tests.doubles.drive import RecordingSink
from workers.engines.base import EngineFault
from workers.engines.openai.rewrite import Change, Rewriting


def rewritten(events: bytes, change: Change, **more: Event) -> RecordingSink:
    sink = RecordingSink()
    rewriting = Rewriting(sink, change, (lambda: more["last"]) if more else None)
    rewriting.start(200, "text/event-stream")
    rewriting.data(events)
    return sink


def test_each_is_changed_left_out_or_several() -> None:
    def change(event: Event) -> Event | list[Event] | None:
        changed: dict[int, Event | list[Event] | None] = {
            1: {"b": 1},
            2: None,
            3: [{"type": "x"}, {"c": 3}],
        }
        return changed[event["a"]]

    sink = rewritten(b'data: {"a":1}\n\ndata: {"a":2}\n\ndata:{"a":3}\n\n', change)
    assert sink.chunks == [b'data: {"b":1}\n\nevent: x\ndata: {"type":"x"}\n\ndata: {"c":3}\n\n']


def test_what_is_no_object_passes_but_null() -> None:
    """llama-server begins a stream for several prompts with it."""
    passing = b": ping\n\ndata: 5\n\ndata: [DONE]\n\n"
    assert rewritten(b"data: null\n\n" + passing, lambda event: event).body == passing


def test_something_is_said_before_the_end() -> None:
    sink = rewritten(b"data: [DONE]\n\n", lambda event: event, last={"usage": 1})
    assert sink.body == b'data: {"usage":1}\n\ndata: [DONE]\n\n'


def test_where_nothing_is_left_there_is_progress() -> None:
    sink = rewritten(b"data: {}\n\n", lambda event: None)
    assert (sink.chunks, sink.touched) == ([], 1)


@pytest.mark.parametrize("event", [b"{", b'{"choices":1}'])
def test_what_is_no_event_is_a_fault(event: bytes) -> None:
    with pytest.raises(EngineFault, match="an event that is none"):
        rewritten(b"data: %b\n\n" % event, lambda found: found["choices"][0])
