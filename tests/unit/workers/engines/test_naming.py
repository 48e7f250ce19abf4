from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sim.drive import Recorder
from workers.engines.naming import Naming, Numbering

NAMES = st.text(min_size=1, max_size=12)


def renamed(name: str, *chunks: bytes) -> bytes:
    sink = Recorder()
    naming = Naming(sink, name)
    naming.start(200, "text/event-stream")
    for chunk in chunks:
        naming.data(chunk)
    return sink.body


@pytest.mark.parametrize("space", [b"", b" ", b"\n  "])
def test_the_engines_name_becomes_the_asked_one(space: bytes) -> None:
    chunks = [b'{"model":' + space + b'"own","a":1}', b'{"b":2,"model":' + space + b'"own"}']
    assert renamed("asked", *chunks) == b"".join(chunks).replace(b'"own"', b'"asked"')


def test_the_name_is_learned_where_it_first_shows() -> None:
    assert renamed("asked", b'{"a":1}', b'{"model":"own"}') == b'{"a":1}{"model":"asked"}'
    assert renamed("own", b'{"model":"own"}', b'{"model":"x"}') == b'{"model":"own"}{"model":"x"}'


@given(NAMES, NAMES, st.text(max_size=20))
def test_words_of_the_model_are_never_changed(own: str, asked: str, said: str) -> None:
    quoted = orjson.dumps({"model": own}).decode()
    before = {"choices": [{"text": said + quoted + said}], "model": own}
    after = orjson.loads(renamed(asked, orjson.dumps(before)))
    assert after == {**before, "model": asked}


@given(st.binary(max_size=60))
def test_bytes_without_a_name_pass(chunk: bytes) -> None:
    if b'"model"' not in chunk:
        assert renamed("asked", chunk) == chunk


@pytest.mark.parametrize("kind", [b"chatcmpl", b"cmpl"])
def test_an_id_out_of_999_becomes_the_jobs(kind: bytes) -> None:
    sink = Recorder()
    numbering = Numbering(sink, "0f")
    numbering.start(200, "text/event-stream")
    for word in (b"7", b'\\"id\\":\\"chatcmpl-7\\"'):
        numbering.data(b'{"id":"%b-7","choices":[{"id":"call_7","text":"%b"}]}' % (kind, word))
    assert sink.body.count(b'"id":"%b-0f"' % kind) == 2
    assert sink.body.count(b'"id":"call_7"') == 2
    assert sink.body.count(b'\\"id\\":\\"chatcmpl-7\\"') == 1


def test_an_id_that_cannot_be_met_twice_stays() -> None:
    sink = Recorder()
    numbering = Numbering(sink, "0f")
    numbering.start(200, "application/json")
    numbering.data(b'{"id":"chatcmpl-RXbJFyXyJiut6rmzQEjnswzMkodm9fi8"}')
    assert sink.body == b'{"id":"chatcmpl-RXbJFyXyJiut6rmzQEjnswzMkodm9fi8"}'
