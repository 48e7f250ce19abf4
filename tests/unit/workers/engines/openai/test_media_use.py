"""Pictures, characters and seconds of sound, as usage counts them."""

from __future__ import annotations

import orjson
import pytest

from schemas import multipart
from schemas.api import endpoints, sse
from schemas.multipart import Part
from tests.doubles.drive import RecordingSink, job
from workers.engines.openai.media_use import meter

LENGTH = {"text": "hi", "usage": {"type": "duration", "seconds": 3}}


async def heard(*chunks: bytes, path: str = endpoints.TRANSCRIPTIONS.path) -> dict[str, int]:
    sink = RecordingSink()
    found = meter(sink, job("own", path), b"")
    assert found is not None
    found.start(200, "text/plain")
    for chunk in chunks:
        found.data(chunk)
    assert sink.body == b"".join(chunks)
    return await found.found()


def test_texts_are_not_looked_at() -> None:
    assert meter(RecordingSink(), job("own", endpoints.CHAT.path), b"{}") is None


@pytest.mark.parametrize(
    ("path", "request_body", "counts"),
    [
        (endpoints.SPEECH.path, {"input": "grüße", "voice": "a"}, {"characters": 5}),
        (endpoints.IMAGES.path, {"prompt": "a cat"}, {"images": 1}),
        (endpoints.IMAGES.path, {"prompt": "a cat", "n": None}, {"images": 1}),
        (endpoints.IMAGES.path, {"prompt": "a cat", "n": 3}, {"images": 3}),
    ],
)
async def test_what_was_asked_for_counts(
    path: str, request_body: dict[str, object], counts: dict[str, int]
) -> None:
    found = meter(RecordingSink(), job("own", path), orjson.dumps(request_body))
    assert found is not None
    assert await found.found() == counts


@pytest.mark.parametrize(("fields", "images"), [({}, 1), ({"n": b"2"}, 2), ({"n": b"many"}, 1)])
async def test_a_form_says_how_many(fields: dict[str, bytes], images: int) -> None:
    body, kind = multipart.encode([Part(name, value) for name, value in fields.items()])
    edit = job("own", endpoints.EDITS.path, content_type=kind)
    found = meter(RecordingSink(), edit, body)
    assert found is not None
    assert await found.found() == {"images": images}


async def test_a_recording_is_as_long_as_the_engine_says() -> None:
    assert await heard(orjson.dumps(LENGTH)) == {"audio_ms": 3000}
    assert await heard(b"plain text", b' about "seconds"') == {"audio_ms": 0}
    assert await heard(orjson.dumps({"usage": {"seconds": "x"}})) == {"audio_ms": 0}
    done = sse.dump({"type": "transcript.text.done", **LENGTH})
    assert await heard(sse.dump({"type": "transcript.text.delta"}), done) == {"audio_ms": 3000}
