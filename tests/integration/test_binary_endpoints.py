"""Sounds through the fabric, and forms of all kinds: real processes, simulated engines."""

from __future__ import annotations

import asyncio
import os
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas import multipart
from schemas.multipart import Part
from tests import field_fuzz
from tests.doubles import recordings
from tests.fabric import PATIENCE
from tests.integration.uploads import MediaSetup, form
from tests.unit.ingress.request.web_server import png
from workers.engines.whisper.engine import tone

TRANSCRIBE = "/v1/audio/transcriptions"
TRANSLATE = "/v1/audio/translations"
GENERATE = "/v1/images/generations"
EDIT = "/v1/images/edits"

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_every_format_of_a_transcription(setup: MediaSetup) -> None:
    types = {
        "json": "application/json",
        "verbose_json": "application/json",
        "text": "text/plain; charset=utf-8",
        "srt": "application/x-subrip",
        "vtt": "text/vtt",
    }
    for wanted, kind in types.items():
        answer = await setup.upload(
            TRANSCRIBE, file=tone(), model="tiny.en", response_format=wanted
        )
        assert answer.status == 200
        assert answer.headers["content-type"].startswith(kind), wanted
        assert answer.headers["x-headrace-served-by"].startswith("node:")
        assert answer.body
    assert len(setup.whisper.jobs) == len(types)


async def test_a_model_need_not_be_named(setup: MediaSetup) -> None:
    for path in (TRANSCRIBE, "/audio/transcriptions", TRANSLATE):
        assert (await setup.upload(path, file=tone())).json["text"]
    translated = [job["translate"].content for job in setup.whisper.jobs]
    assert translated == [b"false", b"false", b"true"]
    other = await setup.fabric.worker(setup.whisper.url, kind="whisper", models=["base"])
    await setup.fabric.served("base", "echo", "flux", "tiny.en")
    answer = await setup.upload(TRANSCRIBE, file=tone())
    assert answer.told == (400, "invalid_request", "model")
    assert "base, tiny.en" in answer.error["message"]
    await other.stop()
    await setup.fabric.served("echo", "flux", "tiny.en")


async def test_models_that_cannot(setup: MediaSetup) -> None:
    for name, told in (
        ("flux", (400, "unsupported_endpoint", "model")),
        ("nobody", (404, "model_not_found", "model")),
    ):
        assert (await setup.upload(TRANSCRIBE, file=tone(), model=name)).told == told
    for path, body in (
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}),
        (GENERATE, {"prompt": "a cat"}),
    ):
        answer = await setup.post(path, {"model": "tiny.en", **body})
        assert answer.told == (400, "unsupported_endpoint", "model")
        assert TRANSCRIBE in answer.error["message"]


async def test_a_transcription_as_events(setup: MediaSetup) -> None:
    whole = (await setup.upload(TRANSCRIBE, file=tone())).json
    answer = await setup.upload(TRANSCRIBE, file=tone(), stream="true")
    assert answer.headers["content-type"].startswith("text/event-stream")
    *deltas, done = answer.events
    assert len(deltas) > 1, "one for each segment"
    assert {each["type"] for each in deltas} == {"transcript.text.delta"}
    assert "".join(each["delta"] for each in deltas) == whole["text"]
    assert done == {"type": "transcript.text.done", "text": whole["text"]}


async def test_what_clients_send_though_it_changes_nothing(setup: MediaSetup) -> None:
    for fields in (
        {"language": ""},
        {"language": "auto"},
        {"timestamp_granularities__": "segment"},
        {"chunking_strategy": "auto"},
        {"stream": "False"},
        {"vad": "false"},
    ):
        assert (await setup.upload(TRANSCRIBE, file=tone(), **fields)).json["text"]
    assert {job["language"].content for job in setup.whisper.jobs} == {b"auto"}
    assert (await setup.upload(TRANSCRIBE, file=tone(), language="English")).json["text"]
    assert setup.whisper.jobs[-1]["language"].content == b"en", "as answers themselves name it"


async def test_a_model_that_knows_english_alone_translates_in_name_only(setup: MediaSetup) -> None:
    """English is what a translation of it is, so that it is answered; the rest is said."""
    why = "the model knows English alone; speech in another language is not translated"
    for path, fields in ((TRANSLATE, {}), (TRANSCRIBE, {"translate": "true"})):
        answer = await setup.upload(path, file=tone(), model="tiny.en", **fields)
        assert (answer.status, bool(answer.json["text"])) == (200, True)
        assert why in answer.headers["x-headrace-warning"]
    for fields in ({}, {"translate": "false"}):
        answer = await setup.upload(TRANSCRIBE, file=tone(), model="tiny.en", **fields)
        assert (answer.status, "x-headrace-warning" in answer.headers) == (200, False)
    async with setup.fabric.session.get(
        setup.url + "/v1/models/tiny.en", headers=setup.fabric.headers
    ) as page:
        assert (await page.json())["headrace"]["ignores"]["translate"]["why"] == why


async def test_fields_of_whisper_server_reach_it(setup: MediaSetup) -> None:
    own = {"no_timestamps": "true", "beam_size": "5", "offset_t": "0", "entropy_thold": "2.8"}
    assert (await setup.upload(TRANSCRIBE, file=tone(), **own)).json["text"]
    job = setup.whisper.jobs[-1]
    assert {name: float(job[name].content) for name in own if name != "no_timestamps"} == {
        "beam_size": 5,
        "offset_t": 0,
        "entropy_thold": 2.8,
    }
    assert job["no_timestamps"].content == b"true"
    assert job["response_format"].content == b"verbose_json", "this one is the fabric's"
    lenient = {"x-headrace-lenient": "true"}
    answer = await setup.post(TRANSCRIBE, *form(file=tone(), beam_size="5"), headers=lenient)
    assert (answer.status, "x-headrace-warning" in answer.headers) == (200, False)
    answer = await setup.post(TRANSCRIBE, *form(file=tone(), vad="true"), headers=lenient)
    assert "vad" in answer.headers["x-headrace-warning"]
    answer = await setup.upload(TRANSCRIBE, file=tone(), vad="true")
    assert answer.told == (400, "unsupported_parameter", "vad")
    answer = await setup.upload(TRANSCRIBE, file=tone(), vad="false", vad_threshold="0.6")
    assert answer.status == 200
    assert "--vad-model" in answer.headers["x-headrace-warning"]


BAD_FORMS: list[tuple[dict[str, Any], str]] = [
    ({"model": "tiny.en"}, "file"),
    ({"file": "text, no upload"}, "file"),
    ({"file": b""}, "file"),
    ({"file": [tone(), tone()]}, "file"),
    ({"file": b"no sound at all"}, "file"),
    ({"file": tone()[:40]}, "file"),
    ({"file": b"RIFF\x24\0\0\0WAVE" + bytes(500)}, "file"),
    ({"file": tone(), "model": ["tiny.en", "echo"]}, "model"),
    ({"file": tone(), "model": b"tiny.en"}, "model"),
    ({"file": tone(), "model": ""}, "model"),
    ({"file": tone(), "model__": "tiny.en"}, "model"),
    ({"file": tone(), "model": "tiny.en", "model__": "echo"}, "model"),
    ({"file": tone(), "response_format": "yaml"}, "response_format"),
    ({"file": tone(), "temperature": "warm"}, "temperature"),
    ({"file": tone(), "temperature": "1.5"}, "temperature"),
    ({"file": tone(), "temperature": "nan"}, "temperature"),
    ({"file": tone(), "stream": "maybe"}, "stream"),
    ({"file": tone(), "stream": "true", "response_format": "vtt"}, "response_format"),
    ({"file": tone(), "language": "Klingon"}, "language"),
    ({"file": tone(), "timestamp_granularities__": "word"}, "timestamp_granularities"),
    (
        {
            "file": tone(),
            "response_format": "verbose_json",
            "timestamp_granularities__": ["word", "era"],
        },
        "timestamp_granularities[1]",
    ),
    ({"file": tone(), "prompt": "a" * 70_000}, "prompt"),
    ({"file": tone(), "prompt": Part("prompt", b"\xff\xfe")}, "prompt"),
    ({"file": tone(), "chunking_strategy": "none"}, "chunking_strategy"),
    ({"file": tone(), "beam_size": "9"}, "beam_size"),
    ({"file": tone(), "no_timestamps": "true", "response_format": "srt"}, "no_timestamps"),
    ({"audio": tone()}, "file"),
    ({"file": tone(), "markup": b"\xff"}, "markup"),
    ({"file": tone(), "chunking_strategy[type]": "server_vad"}, "chunking_strategy"),
]


async def test_bad_forms_are_refused_by_name(setup: MediaSetup) -> None:
    for fields, param in BAD_FORMS:
        answer = await setup.upload(TRANSCRIBE, **fields)
        assert answer.status == 400, fields
        assert answer.error["param"] == param, (answer.error, list(fields))
    assert setup.whisper.jobs == []
    assert (await setup.upload(TRANSCRIBE, file=tone())).status == 200


async def test_what_is_no_form(setup: MediaSetup) -> None:
    body, kind = form(file=tone())
    boundary = kind.partition("=")[2]
    for raw, content_type, word in (
        (body, "multipart/form-data", "boundary"),
        (body, "multipart/form-data; boundary=", "boundary"),
        (body, "multipart/form-data; boundary=other", "multipart"),
        (body, "multipart/form-data; boundary=" + "b" * 400, "multipart"),
        (body, f"multipart/mixed; boundary={boundary}", "multipart/form-data"),
        (b'{"file":"a"}', "application/json", "multipart/form-data"),
        (b"file=a", "application/x-www-form-urlencoded", "multipart/form-data"),
        (body[:-10], kind, "closing boundary"),
        (body[:40], kind, ""),
        (b"", kind, "closing boundary"),
        (body.replace(b'name="file"', b'title="file"'), kind, "no name"),
        (body.replace(b"form-data;", b"attachment;"), kind, "no name"),
        (*multipart.encode([Part("x", b"")] * 200), "128 parts"),
    ):
        answer = await setup.post(TRANSCRIBE, raw, content_type)
        assert answer.told[:2] == (400, "invalid_request"), content_type
        assert word in answer.error["message"]
    assert setup.whisper.jobs == []


async def test_a_lenient_client_is_warned(setup: MediaSetup) -> None:
    lenient = {"x-headrace-lenient": "true"}
    body = form(file=tone(), hotwords="x", chunking_strategy="none")
    for path in (TRANSCRIBE, TRANSLATE):
        answer = await setup.post(path, *body, lenient)
        assert answer.status == 200, answer.body
        assert answer.json["text"]
        assert "hotwords" in answer.headers["x-headrace-warning"]
        assert "chunking_strategy" in answer.headers["x-headrace-warning"]
    assert len(setup.whisper.jobs) == 2
    answer = await setup.post(TRANSCRIBE, *form(file=tone(), temperature="warm"), lenient)
    assert answer.told == (400, "invalid_request", "temperature")


async def test_large_uploads_arrive_whole_and_larger_ones_are_not_read(setup: MediaSetup) -> None:
    large = tone(300)
    assert len(large) > 9_000_000
    assert (await setup.upload(TRANSCRIBE, file=large)).status == 200
    assert setup.whisper.jobs[0]["file"].content == large
    body, kind = form(file=bytes(50_000_000))
    for path, content_type in ((TRANSCRIBE, kind), (EDIT, kind), (GENERATE, "application/json")):
        answer = await setup.post(path, body, content_type)
        assert answer.told == (413, "request_too_large", None)


@pytest.mark.parametrize("seconds", [1, 20, 120])
async def test_a_client_that_leaves_frees_the_engine(setup: MediaSetup, seconds: int) -> None:
    """Whatever the size of what it sent."""
    whisper = setup.whisper
    whisper.open.clear()
    whisper.came.clear()
    whisper.left.clear()
    asked = asyncio.create_task(setup.upload(TRANSCRIBE, file=tone(seconds)))
    async with asyncio.timeout(PATIENCE):
        await whisper.came.wait()
        asked.cancel()
        await whisper.left.wait()
    whisper.open.set()
    assert (await setup.upload(TRANSCRIBE, file=tone())).status == 200


async def test_a_worker_that_can_decode_serves_in_place_of_one_that_cannot(
    setup: MediaSetup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without PyAV (and ffmpeg) a worker takes what whisper-server reads itself. It soon counts as
    the faster one, so jobs come to it first, also those that it has lost."""
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['av'] = None")
    fabric, url = setup.fabric, setup.whisper.url
    with monkeypatch.context() as poor:
        poor.setenv("PATH", "/nowhere")
        poor.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
        without = await fabric.worker(url, kind="whisper", models=["ears"])
    await fabric.served("echo", "ears", "flux", "tiny.en")
    webm = recordings.encode("webm", tone())
    answer = await setup.upload(TRANSCRIBE, file=webm, model="ears")
    assert answer.told == (502, "engine_failed", None)
    assert "ffmpeg in PATH" in answer.error["message"]
    assert (await setup.upload(TRANSCRIBE, file=tone(), model="ears")).status == 200
    other = await fabric.worker(url, kind="whisper", models=["ears"])
    await fabric.slots("ears", 2)
    while not any(line.get("event") == "engine.ranked" for line in other.lines):
        assert (await setup.upload(TRANSCRIBE, file=webm, model="ears")).status == 200
    assert (await setup.upload(TRANSCRIBE, file=webm, model="ears")).status == 200
    assert await without.stop() == await other.stop() == 0
    await fabric.served("echo", "flux", "tiny.en")


async def test_a_key_is_needed(setup: MediaSetup) -> None:
    body = form(file=tone())
    for path in (TRANSCRIBE, TRANSLATE, GENERATE, EDIT, "/v1/images/variations"):
        answer = await setup.post(path, *body, {"Authorization": "Bearer wrong"})
        assert answer.told == (401, "invalid_api_key", None)


# Whatever comes: an answer, in time, that is no fault of ours.

KNOWN = (
    "file model prompt image image[] mask n size response_format temperature stream language "
    "timestamp_granularities[] seed user file[] model[] \x00 é x"
)
NAMES = st.sampled_from(KNOWN.split(" ")) | st.text(string.printable, min_size=1, max_size=20)
CONTENTS = st.sampled_from(
    [tone(0.2), png(64, 64), b"tiny.en", b"flux", b"true", b"1", b"json", b"url", b"64x64", b"a"]
) | st.binary(max_size=64)
PARTS = st.builds(
    Part,
    NAMES,
    CONTENTS,
    st.none() | st.just("a.wav") | st.text(max_size=8),
    st.sampled_from(["", "audio/wav", "image/png", "text/plain; charset=x"]),
)


@st.composite
def uploads(draw: st.DrawFn) -> tuple[bytes, str]:
    """A form, then damaged or not."""
    body, kind = multipart.encode(draw(st.lists(PARTS, max_size=6)))
    if draw(st.booleans()):
        at = draw(st.integers(0, len(body)))
        body = body[:at] + draw(st.binary(max_size=20)) + body[at + draw(st.integers(0, 40)) :]
    if draw(st.integers(0, 9)) == 0:
        kind = draw(st.text(string.ascii_letters + '/;=" -_', max_size=60))
    return body, kind.strip()


@given(path=st.sampled_from([TRANSCRIBE, TRANSLATE, EDIT, GENERATE]), sent=uploads())
@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_no_form_does_any_harm(setup: MediaSetup, path: str, sent: tuple[bytes, str]) -> None:
    answer = await setup.post(path, *sent)
    assert answer.status == 200 or answer.error["type"] == "invalid_request_error"
    assert answer.status < 500
    assert b"Traceback" not in answer.body
    assert not any(process.count("internal") for process in setup.fabric.processes)


FILES = {
    "transcriptions": {"file": tone()},
    "translations": {"file": tone()},
    "edits": {"image": png(64, 64)},
    "images": {},
}


@pytest.mark.parametrize("name", FILES)
async def test_every_field_of_the_specifications(setup: MediaSetup, name: str) -> None:
    async def ask(body: bytes, kind: str) -> tuple[int, bytes]:
        answer = await setup.post(field_fuzz.SPECIFIED[name][0], body, kind)
        return answer.status, answer.body

    assert await field_fuzz.tried(name, ask, FILES[name], sample=20, in_time=PATIENCE) == []
    assert setup.fabric.tracebacks() == []
