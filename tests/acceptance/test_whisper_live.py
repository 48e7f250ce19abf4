"""The whisper engine on a real whisper-server with OpenAI's tiny.en."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from openai.types.audio import Transcription, TranscriptionVerbose, TranslationVerbose

from tests.doubles import recordings
from tests.doubles.whisper.client import TRANSLATE, Answer, engine_at, form, job, run
from tests.real.server import Server
from tests.real.whisper import built, running_whisper
from workers.engines.whisper import audio, languages
from workers.engines.whisper.engine import WhisperEngine, tone

pytestmark = pytest.mark.real_whisper

SAID = "ask not what your country can do for you"
CUE = re.compile(r"\d\d:\d\d:\d\d[.,]\d\d\d --> \d\d:\d\d:\d\d[.,]\d\d\d\n\S")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_whisper() as running:
        yield running


@pytest.fixture
async def engine(server: Server) -> AsyncIterator[WhisperEngine]:
    async with engine_at(server.url, models=["tiny.en"]) as opened:
        await opened.discover()
        yield opened


@pytest.fixture(scope="module")
def speech() -> bytes:
    """11 s of a famous speech, as MP3."""
    return built().speech.read_bytes()


async def hear(
    engine: WhisperEngine, file: bytes, /, endpoint: str = "", **fields: str | list[str]
) -> Answer:
    wanted = job(form(file, **fields), endpoint) if endpoint else job(form(file, **fields))
    return (await run(engine, wanted))[1]


async def test_it_is_found_and_hears_a_tone(engine: WhisperEngine) -> None:
    offer = await engine.discover()
    await engine.check()
    assert (offer.slots, [model.id for model in offer.models]) == (1, ["tiny.en"])
    assert await engine.probe()


async def test_its_check_finds_out_that_it_knows_english_alone(engine: WhisperEngine) -> None:
    (before,) = (await engine.discover()).models
    (model,) = (await engine.check()).models
    found = {each.field for each in model.ignores} - {each.field for each in before.ignores}
    assert found == {"translate"}


async def test_the_openai_path_of_the_server(speech: bytes) -> None:
    with running_whisper("--inference-path", "/v1/audio/transcriptions") as other:
        async with engine_at(other.url) as engine:
            await engine.discover()
            assert SAID in (await hear(engine, speech)).json["text"]


async def test_json(engine: WhisperEngine, speech: bytes) -> None:
    answer = await hear(engine, speech)
    found = Transcription.model_validate(answer.json)
    assert SAID in found.text
    assert found.text == " ".join(found.text.split())
    assert answer.json["usage"] == {"type": "duration", "seconds": 11}


async def test_text(engine: WhisperEngine, speech: bytes) -> None:
    answer = await hear(engine, speech, response_format="text")
    assert answer.content_type.startswith("text/plain")
    assert SAID in answer.text
    assert answer.text.endswith(".\n")


async def test_subtitles(engine: WhisperEngine, speech: bytes) -> None:
    srt = await hear(engine, speech, response_format="srt")
    vtt = await hear(engine, speech, response_format="vtt", max_len="30", split_on_word="true")
    assert srt.content_type.startswith("application/x-subrip")
    assert srt.text.startswith("1\n00:00:00,")
    assert len(CUE.findall(srt.text)) >= 1
    assert vtt.content_type.startswith("text/vtt")
    assert vtt.text.startswith("WEBVTT\n\n00:00:00.")
    assert len(CUE.findall(vtt.text)) > len(CUE.findall(srt.text))


async def test_verbose_json_with_words(engine: WhisperEngine, speech: bytes) -> None:
    both = ["word", "segment"]
    answer = await hear(
        engine, speech, response_format="verbose_json", timestamp_granularities=both
    )
    found = TranscriptionVerbose.model_validate(answer.json)
    assert (found.language, found.duration) == ("english", 11.0)
    assert found.segments
    assert found.segments[0].start == 0.0
    assert found.segments[-1].end <= 11.0
    assert "".join(segment.text for segment in found.segments).strip() == found.text
    assert found.words
    assert " ".join(word.word for word in found.words).replace(".", "").find(SAID) > 0
    assert all(0 <= word.start <= word.end <= 11.01 for word in found.words)


async def test_verbose_json_of_a_translation(engine: WhisperEngine, speech: bytes) -> None:
    answer = await hear(engine, speech, endpoint=TRANSLATE, response_format="verbose_json")
    found = TranslationVerbose.model_validate(answer.json)
    assert (answer.json["task"], found.language) == ("translate", "english")
    assert found.segments
    assert "words" not in answer.json
    assert SAID in found.text


async def test_whisper_servers_own_fields(engine: WhisperEngine, speech: bytes) -> None:
    """Each with something to see of it."""

    async def verbose(**fields: str) -> Any:
        answer = await hear(engine, speech, response_format="verbose_json", **fields)
        assert answer.status == 200, answer.text
        return answer.json

    untimed = await verbose(no_timestamps="true")
    assert SAID in untimed["text"]
    assert "start" not in untimed["segments"][0]
    late = await verbose(offset_t="5000", duration="5000", token_timestamps="true")
    assert 5.0 <= late["segments"][0]["start"] <= late["segments"][-1]["end"] <= 11.0
    assert "fellow" not in late["text"]
    assert late["segments"][0]["words"][0]["t_dtw"] == -1
    odds = await verbose(no_language_probabilities="false")
    assert odds["language_probabilities"][languages.code(odds["detected_language"])] > 0
    srt = await hear(engine, speech, response_format="srt", offset_n="41", max_len="20")
    assert srt.text.startswith("42\n")


async def test_whisper_servers_knobs_are_taken(engine: WhisperEngine, speech: bytes) -> None:
    """All at once, at their ends; what they do shows in hard cases alone."""
    knobs = "beam_size=8 best_of=8 max_context=0 audio_ctx=1500 temperature_inc=0 entropy_thold=2.4"
    knobs += " logprob_thold=-1 no_speech_thold=1 word_thold=0.01 suppress_non_speech=true"
    knobs += " carry_initial_prompt=true split_on_word=true no_context=true"
    fields = dict(knob.split("=") for knob in knobs.split())
    assert SAID.removesuffix("country") in (await hear(engine, speech, **fields)).json["text"]


async def test_the_same_request_gives_the_same_answer(engine: WhisperEngine, speech: bytes) -> None:
    first, second = [await hear(engine, speech, temperature="0") for _ in range(2)]
    assert first.body == second.body


async def test_a_prompt_is_heeded(engine: WhisperEngine, speech: bytes) -> None:
    plain = await hear(engine, speech)
    prompted = await hear(engine, speech, prompt="AND SO MY FELLOW AMERICANS, ALL IN CAPITALS.")
    assert plain.json["text"] != prompted.json["text"]


@pytest.mark.parametrize("kind", ["m4a", "webm", "opus", "flac", "ogg"])
async def test_uploads_of_other_kinds(engine: WhisperEngine, speech: bytes, kind: str) -> None:
    answer = await hear(engine, recordings.encode(kind, speech))
    assert SAID in answer.json["text"]


async def test_bad_files_are_refused_and_the_server_lives(
    server: Server, engine: WhisperEngine, speech: bytes
) -> None:
    for bad in (
        b"no sound at all",
        tone()[:60],
        b"RIFF\x24\0\0\0WAVE" + bytes(500),
        b"fLaC" + bytes(500),
        b"\xff\xfb\x90\x64" + bytes(500),
        b"OggS\0\x02" + bytes(22) + b"\x01vorbis" + bytes(500),
        audio.wav(bytes(800)),
    ):
        answer = await hear(engine, bad)
        assert answer.error[:2] == (400, "file"), bad[:12]
    assert server.alive
    assert await engine.probe()


async def test_a_prompt_that_would_kill_the_server_is_cut(
    server: Server, engine: WhisperEngine
) -> None:
    answer = await hear(engine, tone(), prompt="a" * 60_000, temperature_inc="0")
    assert answer.status == 200
    assert server.alive


async def test_a_client_that_goes_frees_the_server(
    server: Server, engine: WhisperEngine, speech: bytes
) -> None:
    pcm = await audio.decode(speech, audio.sniff(speech))
    seen = len(server.log)
    long = asyncio.create_task(hear(engine, audio.wav(pcm * 30)))
    await server.said("Running whisper.cpp inference", seen)
    long.cancel()
    with pytest.raises(asyncio.CancelledError):
        await long
    await server.said("client disconnected, aborted processing", seen)
    assert SAID in (await hear(engine, speech)).json["text"]


async def test_requests_are_heard_one_by_one(
    server: Server, engine: WhisperEngine, speech: bytes
) -> None:
    seen = len(server.log)
    answers = await asyncio.gather(*(hear(engine, speech) for _ in range(3)))
    assert all(SAID in answer.json["text"] for answer in answers)
    # Said as a job is begun, and as its sound is handed to the model.
    steps = [line[:8] for line in server.log[seen:] if line.startswith(("Received", "Running "))]
    assert steps == ["Received", "Running "] * 3
