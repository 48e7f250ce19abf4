"""Speech to text with nothing simulated: the official SDK, real processes, two whisper-servers."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
import pytest_asyncio
from openai.types.audio import TranscriptionVerbose

from deploy.nats import broker as brokers
from tests import field_fuzz
from tests.doubles import recordings
from tests.fabric import KEY, PATIENCE, Fabric, Process, counts, fabric
from tests.real.server import Server
from tests.real.whisper import built, running_whisper
from workers.engines.whisper import audio

MODEL = "whisper-1"
SAID = "ask not what your country can do for you"
CUE = re.compile(r"\d\d:\d\d:\d\d[.,]\d\d\d --> \d\d:\d\d:\d\d[.,]\d\d\d\n\S")

pytestmark = [pytest.mark.real_whisper, pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture(scope="module")
def servers() -> Iterator[list[Server]]:
    with running_whisper() as one, running_whisper() as other:
        yield [one, other]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(
    servers: list[Server], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Fabric]:
    home = tmp_path_factory.mktemp("fabric")
    with brokers.start(home / "broker", 0, 0) as broker:
        async with fabric(broker, home) as made:
            await made.ingress()
            for server in servers:
                await made.worker(server.url, kind="whisper", models=[MODEL])
            await made.worker()
            await made.served("echo", MODEL)
            yield made


@pytest_asyncio.fixture(loop_scope="module")
async def client(served: Fabric) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=served.url + "/v1", api_key=KEY, max_retries=0, timeout=PATIENCE
    ) as made:
        yield made


@pytest.fixture(scope="module")
def speech() -> bytes:
    """11 s of a famous speech, as MP3."""
    return built().speech.read_bytes()


async def hear(client: openai.AsyncOpenAI, file: bytes, /, **more: Any) -> Any:
    fields = {"model": MODEL, "temperature": 0, **more}
    return await client.audio.transcriptions.create(file=("speech.bin", file), **fields)


async def test_json(client: openai.AsyncOpenAI, speech: bytes) -> None:
    answer = await hear(client, speech)
    assert SAID in answer.text
    assert answer.usage.seconds == 11


async def test_text_and_subtitles(client: openai.AsyncOpenAI, speech: bytes) -> None:
    text, srt, vtt = [
        await hear(client, speech, response_format=kind) for kind in ("text", "srt", "vtt")
    ]
    assert SAID in text
    assert srt.startswith("1\n00:00:00,")
    assert vtt.startswith("WEBVTT\n\n00:00:00.")
    assert CUE.search(srt)
    assert CUE.search(vtt)


async def test_verbose_json_with_words(client: openai.AsyncOpenAI, speech: bytes) -> None:
    answer: TranscriptionVerbose = await hear(
        client,
        speech,
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    assert (answer.language, answer.duration) == ("english", 11.0)
    assert answer.segments
    assert answer.words
    assert " ".join(word.word for word in answer.words).replace(".", "").find(SAID) > 0


async def test_the_head_is_the_workers(served: Fabric, speech: bytes) -> None:
    """Whatever the client asks for comes with its own content type."""
    types = {"json": "application/json", "text": "text/plain", "srt": "application/x-subrip"}
    for wanted, kind in types.items():
        form: dict[str, Any] = {"response_format": wanted, "file": io.BytesIO(speech)}
        async with served.session.post(
            served.url + "/audio/transcriptions", data=form, headers=served.headers
        ) as answer:
            assert answer.status == 200
            assert answer.content_type == kind
            assert SAID in await answer.text()


@pytest.mark.filterwarnings("ignore:deprecated")
async def test_a_translation(client: openai.AsyncOpenAI, speech: bytes) -> None:
    answer = await client.audio.translations.with_raw_response.create(
        model=MODEL, file=("speech.mp3", speech)
    )
    assert SAID in answer.parse().text
    assert "the model knows English alone" in answer.headers["x-headrace-warning"]


@pytest.mark.parametrize("kind", ["m4a", "webm", "flac"])
async def test_uploads_of_other_kinds(client: openai.AsyncOpenAI, speech: bytes, kind: str) -> None:
    assert SAID in (await hear(client, recordings.encode(kind, speech))).text


async def test_two_workers_share_the_work(
    served: Fabric, client: openai.AsyncOpenAI, speech: bytes
) -> None:
    before = [began(worker) for worker in workers(served)]
    answers = await asyncio.gather(*(hear(client, speech) for _ in range(4)))
    assert all(SAID in answer.text for answer in answers)
    after = await counts(workers(served), "runner.began", sum(before) + 4)
    grown = [now - then for now, then in zip(after, before, strict=True)]
    assert sum(grown) == 4
    assert min(grown) >= 1


async def test_a_long_recording_travels_by_reference(
    client: openai.AsyncOpenAI, speech: bytes
) -> None:
    pcm = await audio.decode(speech, audio.sniff(speech))
    file = audio.wav(pcm * 3)
    assert len(file) > 1_000_000
    assert SAID in (await hear(client, file)).text


async def test_a_client_that_leaves_frees_the_engine(
    served: Fabric, servers: list[Server], client: openai.AsyncOpenAI, speech: bytes
) -> None:
    pcm = await audio.decode(speech, audio.sniff(speech))
    seen, before = [len(s.log) for s in servers], [began(w) for w in workers(served)]
    long = asyncio.create_task(hear(client, audio.wav(pcm * 30)))
    which = await next_to_begin(workers(served), before)
    await servers[which].said("Running whisper.cpp inference", seen[which])
    long.cancel()
    with pytest.raises(asyncio.CancelledError):
        await long
    await servers[which].said("client disconnected, aborted processing", seen[which])
    assert SAID in (await hear(client, speech)).text


@pytest.mark.parametrize(
    ("file", "more", "param"),
    [
        (b"no sound at all", {}, "file"),
        (b"RIFF\x24\0\0\0WAVE" + bytes(500), {}, "file"),
        (b"\xff\xfb\x90\x64" + bytes(500), {}, "file"),
        (b"", {}, "file"),
        (audio.wav(bytes(800)), {}, "file"),
        (audio.wav(bytes(32_000)), {"response_format": "yaml"}, "response_format"),
        (audio.wav(bytes(32_000)), {"temperature": 2}, "temperature"),
        (audio.wav(bytes(32_000)), {"language": "fr"}, "language"),
        (audio.wav(bytes(32_000)), {"language": "xx"}, "language"),
        (audio.wav(bytes(32_000)), {"stream": True, "response_format": "srt"}, "response_format"),
        (audio.wav(bytes(32_000)), {"include": ["logprobs"]}, "include"),
        (audio.wav(bytes(32_000)), {"model": "echo"}, "model"),
    ],
)
async def test_bad_requests_are_refused_by_name(
    client: openai.AsyncOpenAI, file: bytes, more: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as fault:
        await hear(client, file, **more)
    assert fault.value.param == param
    assert fault.value.type == "invalid_request_error"
    assert fault.value.code
    assert len(fault.value.message) > 20


@pytest.mark.parametrize("name", ["transcriptions", "translations"])
async def test_every_field_of_the_specifications(served: Fabric, name: str) -> None:
    """The file is a second of silence, which the model is not to listen to again and again."""

    async def ask(body: bytes, kind: str) -> tuple[int, bytes]:
        headers = {**served.headers, "Content-Type": kind}
        url = served.url + field_fuzz.SPECIFIED[name][0]
        async with served.session.post(url, data=body, headers=headers) as answer:
            return answer.status, await answer.read()

    base = {"model": MODEL, "file": audio.wav(bytes(32_000)), "temperature_inc": 0}
    assert await field_fuzz.tried(name, ask, base, sample=2, in_time=PATIENCE) == []
    assert served.tracebacks() == []


def workers(served: Fabric) -> list[Process]:
    """Those that hear, in the order of their servers."""
    return [process for process in served.processes if process.name.startswith("worker")][:2]


def began(worker: Process) -> int:
    return worker.count("runner.began")


async def next_to_begin(among: list[Process], before: list[int]) -> int:
    """Which of them begins a job beyond those it had."""
    waits = [
        asyncio.create_task(process.logged("runner.began", skip=count))
        for process, count in zip(among, before, strict=True)
    ]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    which = next(index for index, wait in enumerate(waits) if wait.done())
    for wait in waits:
        wait.cancel()
    await asyncio.wait(waits)
    return which
