from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest

from schemas.multipart import Part
from tests.doubles import recordings
from tests.doubles.whisper.client import TRANSLATE, engine_at, form, job, run
from tests.doubles.whisper.server import SILENCE, WhisperSim, whisper_sim
from tests.unit.fakes import PATIENCE
from workers.engines.base import EngineFault
from workers.engines.whisper import audio, request
from workers.engines.whisper import engine as engines
from workers.engines.whisper.engine import WhisperEngine, tone


@pytest.fixture
async def sim() -> AsyncIterator[WhisperSim]:
    async with whisper_sim() as running:
        yield running


@pytest.fixture
async def engine(sim: WhisperSim) -> AsyncIterator[WhisperEngine]:
    async with engine_at(sim.url) as opened:
        await opened.discover()
        yield opened


async def test_it_offers_one_slot_and_the_names_of_the_config(sim: WhisperSim) -> None:
    async with engine_at(sim.url, models=["tiny.en"], slots=4) as engine:
        offer = await engine.discover()
    (model,) = offer.models
    assert (offer.slots, model.slots, model.id, model.kind) == (1, 1, "tiny.en", "whisper")
    assert model.modalities == ("audio",)
    assert model.features == ("transcriptions", "translations")


async def test_without_a_name_it_is_whisper_1(engine: WhisperEngine) -> None:
    (model,) = (await engine.discover()).models
    assert model.id == "whisper-1"


@pytest.mark.parametrize("path", ["/inference", "/v1/audio/transcriptions"])
async def test_it_finds_the_servers_path(path: str) -> None:
    async with whisper_sim(path) as sim, engine_at(sim.url) as engine:
        await engine.discover()
        await engine.check()
        _, answer = await run(engine, job(form()))
    assert answer.status == 200
    assert len(sim.jobs) == 3, "two are the check's"


async def test_what_is_no_whisper_server_is_told() -> None:
    async with whisper_sim("/elsewhere") as sim, engine_at(sim.url) as engine:
        with pytest.raises(EngineFault, match="is the URL right"):
            await engine.discover()
    async with whisper_sim(server="llama.cpp") as sim, engine_at(sim.url) as engine:
        with pytest.raises(EngineFault, match="is the URL right"):
            await engine.discover()


async def test_a_server_that_loads_is_away(sim: WhisperSim, engine: WhisperEngine) -> None:
    sim.loading = True
    assert not await engine.probe()
    with pytest.raises(EngineFault) as caught:
        await engine.discover()
    assert caught.value.away


async def test_the_check_is_a_real_small_job(sim: WhisperSim, engine: WhisperEngine) -> None:
    sim.answer = SILENCE
    await engine.check()
    heard, looked = sim.jobs
    assert heard["file"].content[:4] == looked["file"].content[:4] == b"RIFF"
    assert [each["vad"].content for each in sim.jobs] == [b"false", b"true"]
    sim.status = 500
    with pytest.raises(EngineFault, match="failed a small job: 500"):
        await engine.check()
    sim.status, sim.answer = 200, b"<html>"
    with pytest.raises(EngineFault):
        await engine.check()


async def test_its_check_finds_out_that_it_finds_speech(
    sim: WhisperSim, engine: WhisperEngine
) -> None:
    fields = {"vad": "true", "vad_threshold": "0.6"}
    for sim.vad in (True, False):
        offer = await engine.check()
        (model,) = offer.models
        lacking = {each.field for each in model.ignores if each.field.startswith("vad")}
        assert lacking == (set() if sim.vad else {request.VAD, *request.VAD_OPTIONS})
        _, answer = await run(engine, job(form(**fields)))
        if sim.vad:
            assert answer.status == 200
            said = {name: part.content for name, part in sim.jobs[-1].items()}
            assert (said["vad"], said["vad_threshold"]) == (b"true", b"0.600000")
        else:
            status, param, code, message = answer.error
            assert (status, param, code) == (400, "vad", "unsupported_parameter")
            assert "--vad-model" in message


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("json", "application/json"),
        ("verbose_json", "application/json"),
        ("text", "text/plain; charset=utf-8"),
        ("srt", "application/x-subrip; charset=utf-8"),
        ("vtt", "text/vtt; charset=utf-8"),
    ],
)
async def test_every_format_has_its_type(
    engine: WhisperEngine, name: str, content_type: str
) -> None:
    end, answer = await run(engine, job(form(response_format=name)))
    assert (answer.status, answer.content_type) == (200, content_type)
    assert "for you ask what" in answer.body.decode() or name in ("srt", "vtt", "verbose_json")
    assert b"country" in answer.body
    assert (end.prompt_tokens, end.completion_tokens) == (-1, 23)


async def test_translations_ask_for_one(sim: WhisperSim, engine: WhisperEngine) -> None:
    await run(engine, job(form(), TRANSLATE))
    assert sim.jobs[0]["translate"].content == b"true"


async def test_what_the_engine_reads_goes_as_it_came(
    sim: WhisperSim, engine: WhisperEngine
) -> None:
    speech = tone(0.5)
    await run(engine, job(form(speech)))
    assert sim.jobs[0]["file"] == Part("file", speech, "audio")


async def test_megabytes_go_through(sim: WhisperSim, engine: WhisperEngine) -> None:
    long = audio.wav(bytes(4 * 2**20))
    _, answer = await run(engine, job(form(long)))
    assert answer.status == 200
    assert sim.jobs[0]["file"].content == long


async def test_other_kinds_go_as_wav(sim: WhisperSim, engine: WhisperEngine) -> None:
    _, answer = await run(engine, job(form(recordings.encode("m4a", tone()))))
    assert answer.status == 200
    assert sim.jobs[0]["file"].content[:4] == b"RIFF"


async def test_what_only_this_machine_cannot_decode_is_for_another(
    sim: WhisperSim, engine: WhisperEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(engines, "STEP_BACK", 0)
    with pytest.raises(EngineFault, match=r"ears: .* it lacks: ffmpeg in PATH") as caught:
        await run(engine, job(form(recordings.encode("webm", tone()))))
    assert (caught.value.retryable, caught.value.away) == (True, False)
    assert (await run(engine, job(form())))[1].status == 200


async def test_refusals_name_the_field_and_the_server_is_not_asked(
    sim: WhisperSim, engine: WhisperEngine
) -> None:
    for body, param in (
        (form(b"no sound at all"), "file"),
        (form(stream="true", response_format="srt"), "response_format"),
        (form(temperature="warm"), "temperature"),
        ((b"", "multipart/form-data"), None),
    ):
        end, answer = await run(engine, job(body))
        assert answer.error[:2] == (400, param)
        assert end.completion_tokens == 0
    assert sim.jobs == []


async def test_lenient_requests_pass_without_the_field(
    sim: WhisperSim, engine: WhisperEngine
) -> None:
    _, answer = await run(engine, job(form(hotwords="x"), lenient=True))
    assert answer.status == 200
    assert "hotwords" not in sim.jobs[0]


async def test_what_the_server_cannot_decode_is_the_clients_fault(
    sim: WhisperSim, engine: WhisperEngine
) -> None:
    sim.status = 400
    _, answer = await run(engine, job(form()))
    status, param, code, message = answer.error
    assert (status, param, code) == (400, "file", "invalid_request")
    assert "not the wav that it begins as" in message


async def test_too_short_audio_is_refused(sim: WhisperSim, engine: WhisperEngine) -> None:
    sim.answer = SILENCE.replace(b"1.0", b"0.05")
    _, answer = await run(engine, job(form()))
    assert answer.error[:2] == (400, "file")
    assert "too short" in answer.error[3]
    sim.jobs.clear()
    _, answer = await run(engine, job(form(tone(0.05), no_language_probabilities="false")))
    assert (answer.error[:2], sim.jobs) == ((400, "file"), [])


async def test_an_english_model_takes_no_other_language(
    sim: WhisperSim, engine: WhisperEngine
) -> None:
    sim.answer = SILENCE
    await engine.check()
    _, refused = await run(engine, job(form(language="de")))
    assert refused.error[1] == "language"
    for body in (form(language="en"), form()):
        assert (await run(engine, job(body)))[1].status == 200
    sim.answer = SILENCE.replace(b"english", b"french")
    await engine.check()
    assert (await run(engine, job(form(language="de"))))[1].status == 200


async def test_an_english_model_says_that_it_translates_nothing(
    sim: WhisperSim, engine: WhisperEngine
) -> None:
    sim.answer = SILENCE
    for offer in (await engine.check(), await engine.discover()):
        (model,) = offer.models
        (told,) = (each for each in model.ignores if each.wanted({"translate": True}))
        assert told.partly, "English is still answered"
    sim.answer = SILENCE.replace(b"english", b"french")
    (model,) = (await engine.check()).models
    assert not any(each.wanted({"translate": True}) for each in model.ignores)


async def test_the_card_says_what_openai_has_beside(engine: WhisperEngine) -> None:
    (model,) = (await engine.discover()).models
    asked = {"chunking_strategy": "none", "include": ["logprobs"], "stream": True}
    lost = [each.field for each in model.ignores if each.wanted(asked)]
    assert lost == ["chunking_strategy", "include"]
    assert not any(each.wanted({"chunking_strategy": "auto"}) for each in model.ignores)


@pytest.mark.parametrize(("status", "away"), [(500, False), (503, True), (404, True)])
async def test_faults_of_the_server_are_retried(
    sim: WhisperSim, engine: WhisperEngine, status: int, away: bool
) -> None:
    sim.status = status
    with pytest.raises(EngineFault) as caught:
        await run(engine, job(form()))
    assert (caught.value.retryable, caught.value.away) == (True, away)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b'{"text": "..."', "sent no transcript"),
        (b"", "its answer is empty"),
        (b'{"error":"failed to process audio"}', "failed to process audio"),
    ],
)
async def test_an_answer_that_is_none_is_a_fault(
    sim: WhisperSim, engine: WhisperEngine, answer: bytes, said: str
) -> None:
    sim.answer = answer
    with pytest.raises(EngineFault, match=said) as caught:
        await run(engine, job(form()))
    assert caught.value.retryable


async def test_a_server_that_is_gone_is_away() -> None:
    async with whisper_sim() as sim, engine_at(sim.url) as engine:
        pass
    async with engine_at(sim.url) as engine:
        with pytest.raises(EngineFault) as caught:
            await run(engine, job(form()))
    assert caught.value.away


async def test_a_cancelled_job_leaves_the_server(sim: WhisperSim, engine: WhisperEngine) -> None:
    sim.open.clear()
    task = asyncio.create_task(run(engine, job(form())))
    async with asyncio.timeout(PATIENCE):
        await sim.came.wait()
        task.cancel()
        await sim.left.wait()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_job_that_is_late_is_no_progress(
    sim: WhisperSim, engine: WhisperEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await engine.probe()
    sim.open.clear()
    task = asyncio.create_task(run(engine, job(form())))
    async with asyncio.timeout(PATIENCE):
        await sim.came.wait()
        assert await engine.probe()
        later = SimpleNamespace(monotonic=lambda: time.monotonic() + 3600)
        monkeypatch.setattr("workers.engines.whisper.engine.time", later)
        assert not await engine.probe()
        sim.open.set()
        await task
        assert await engine.probe()
