from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.doubles.drive import RecordingSink
from workers.engines.openai import stream
from workers.engines.openai.stream import ModelName

NAMES = st.text(min_size=1, max_size=12)


def renamed(name: str, *chunks: bytes) -> bytes:
    sink = RecordingSink()
    renaming = ModelName(sink, name)
    renaming.start(200, "text/event-stream")
    for chunk in chunks:
        renaming.data(chunk)
    return sink.body


@pytest.mark.parametrize("space", [b"", b" ", b"\n  "])
def test_the_engines_name_becomes_the_asked_one(space: bytes) -> None:
    chunks = [b'{"model":' + space + b'"own","a":1}', b'{"b":2,"model":' + space + b'"own"}']
    assert renamed("asked", *chunks) == b"".join(chunks).replace(b'"own"', b'"asked"')


def test_a_name_may_come_late_and_change() -> None:
    assert renamed("asked", b'{"a":1}', b'{"model":"own"}') == b'{"a":1}{"model":"asked"}'
    assert renamed("own", b'{"model":"own"}', b'{"model":"x"}') == b'{"model":"own"}{"model":"own"}'


def test_events_that_have_the_right_name_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mostly a model is asked for by the engine's own name: then nothing is to be done."""
    events = [b'data: {"a":%d,"model":"own"}\n\n' % number for number in range(3)]
    sink = RecordingSink()
    renaming = ModelName(sink, "own")
    renaming.start(200, "text/event-stream")
    renaming.data(events[0])
    monkeypatch.delattr(ModelName, "_event")
    for event in events[1:]:
        renaming.data(event + event)
    assert sink.body == events[0] + events[1] * 2 + events[2] * 2


@pytest.mark.parametrize("several", [False, True])
def test_a_document_that_was_made_here_is_named_before_it_is_written(several: bool) -> None:
    """Of several prompts llama-server's own text completion has a list of documents."""
    made = [{"content": "a", "model": "own"}, {"content": "b"}] if several else {"model": "own"}
    renaming = ModelName(RecordingSink(), "asked")
    renaming.put_into(made)
    told = [{"content": "a", "model": "asked"}, {"content": "b"}] if several else {"model": "asked"}
    assert made == told


@given(NAMES, NAMES, st.text(max_size=20))
def test_words_of_the_model_are_never_changed(own: str, asked: str, said: str) -> None:
    quoted = orjson.dumps({"model": own}).decode()
    before = {"choices": [{"text": said + quoted + said}], "model": own}
    after = orjson.loads(renamed(asked, orjson.dumps(before)))
    assert after == {**before, "model": asked}


TOOL = b'{"content":[{"type":"tool_use","input":{"model":"Paris"}}],"model":"own"}'
SPECIMEN = b'{"id":"r","metadata":{"model":"car"},"model":"own","tools":[{"model":"x"}]}'
LATE = b'{"metadata":{"model":"car"},"text":"\\"model\\":\\"own\\"","model":"own","at":[{"a":1}]} '
DEEP = b'{"a":"%b","response":{"model":"car"}}' % (b"x" * 99)


@pytest.mark.parametrize("document", [TOOL, SPECIMEN, LATE, DEEP])
def test_a_field_of_the_same_name_inside_a_document_stays(document: bytes) -> None:
    assert renamed("asked", document) == document.replace(b':"own"', b':"asked"')


def test_of_a_long_document_only_what_is_behind_the_name_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """64 embeddings (627 KB) took 11 ms of the worker's loop, in which no other answer went on."""
    read: list[int] = []
    opened = stream._open

    def counted(before: bytes, text: bytes) -> bytes:
        read.append(len(text))
        return opened(before, text)

    monkeypatch.setattr(stream, "_open", counted)
    data = [{"object": "embedding", "embedding": [0.5] * 768}] * 9
    before = orjson.dumps({"object": "list", "data": data, "model": "own", "usage": {}})
    assert renamed("asked", before) == before.replace(b'"own"', b'"asked"')
    assert sum(read) < 99


@pytest.mark.parametrize(
    "event",
    [
        b'event: message_start\ndata: {"type":"message_start","message":{"model":"own"}}\n\n',
        b'data: {"response":{"metadata":{"model":"car"},"model":"own"},"type":"r"}\n\n',
        b'data: {"item":{"model":"car"},"model":"own"}\n\n',
        b'data: {"choices":[{"message":{"model":"car"}}],"model":"own"}\n\n',
        b'data: {"input":{"model":"car","response":{"model":"x"}}}\n\n',
        b'data: {"a \\"model":"car","response":{"b":{},"model":"own"}}\n\n',
    ],
)
def test_in_an_event_only_the_answers_own_field_changes(event: bytes) -> None:
    after = event.replace(b'"own"', b'"asked"')
    assert renamed("asked", event) == after
    assert renamed("asked", event * 3) == after * 3
    assert renamed("asked", *[event] * 3) == after * 3


def test_an_event_like_the_one_before_is_no_reason_to_change_another_field() -> None:
    first = b'data: {"a":1,"model":"own"}\n\n'
    for second in (
        b'data: {"a":{"a":1,"model":"own"}}\n\n',
        b'data: {"b":"","b\\"model":"own"}\n\n',
    ):
        assert renamed("asked", first, second) == first.replace(b"own", b"asked") + second


WORDS = st.sampled_from(
    ["model", "own", '"model"', '\\"model":"own"', "response", "message", "{", "]"]
)
LEAVES = st.none() | st.integers(-9, 9) | WORDS | st.text(max_size=6)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(WORDS, inner, max_size=4)
        | st.just({"model": "own"})
    ),
    max_leaves=12,
)
ANSWERS = st.dictionaries(WORDS, VALUES, max_size=5)


def _expected(answer: dict[str, Any], *, event: bool) -> dict[str, Any]:
    """By what JSON means: the first name of a model that is the answer's own."""
    for key, value in answer.items():
        if key == "model" and isinstance(value, str):
            return {**answer, key: "asked"}
        own = event and key in ("response", "message") and isinstance(value, dict)
        if own and isinstance(value.get("model"), str):
            return {**answer, key: {**value, "model": "asked"}}
    return answer


def _is_named_once(answer: dict[str, Any]) -> bool:
    """No API names the model twice in one event, so which name is changed there is open."""
    inner = (answer.get(key) for key in ("response", "message"))
    names = [answer.get("model"), *(each.get("model") for each in inner if isinstance(each, dict))]
    return sum(isinstance(name, str) for name in names) <= 1


FEW = st.lists(ANSWERS.filter(_is_named_once), min_size=1, max_size=4)


@given(FEW, st.booleans(), st.booleans())
def test_events_are_changed_by_what_json_means(
    answers: list[dict[str, Any]], spaced: bool, together: bool
) -> None:
    written = json.dumps if spaced else orjson.dumps
    events = [b"data: %b\n\n" % _bytes(written(answer)) for answer in answers * 2]
    got = renamed("asked", *([b"".join(events)] if together else events))
    found = [orjson.loads(each[5:]) for each in got.split(b"\n\n") if each]
    assert found == [_expected(answer, event=True) for answer in answers * 2]


@given(ANSWERS, st.sampled_from([None, 1]))
def test_a_document_is_changed_by_what_json_means(
    answer: dict[str, Any], indent: int | None
) -> None:
    got = renamed("asked", json.dumps(answer, indent=indent).encode())
    assert orjson.loads(got) == _expected(answer, event=False)


def _bytes(written: str | bytes) -> bytes:
    return written if isinstance(written, bytes) else written.encode()


def test_bytes_of_a_sound_pass() -> None:
    sound = b"RIFF\0\0" + bytes(64)
    assert renamed("asked", sound, sound) == sound + sound


@given(st.binary(max_size=60))
def test_bytes_without_a_name_pass(chunk: bytes) -> None:
    if b'"model"' not in chunk:
        assert renamed("asked", chunk) == chunk
