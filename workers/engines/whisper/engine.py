"""whisper.cpp's whisper-server, as measured on 1.8.5.

It works on one job at a time, whatever the number of its HTTP threads, and queues the rest without
bound, so it has one slot. It stops within half a second when its client leaves. It has a page that
loads another model from a path, and dies if the file is no model; this module never calls it.
The worker always asks for the richest format and writes what OpenAI documents. The server answers
only when it has heard all of the audio, so a stream brings all of the text at its end.
"""

from __future__ import annotations

import array
import asyncio
import math
import time
from functools import partial

import structlog

from schemas import settings
from schemas.api import endpoints, sse
from schemas.frames import End
from schemas.jobs import Job
from schemas.nodes import NOTHING, Ignored, ServedModel
from workers.engines import digest, identity
from workers.engines.base import EngineFault, Offer, Sink
from workers.engines.http.upstream import Upstream
from workers.engines.openai.refusal import Refusal
from workers.engines.openai.request_body import aside
from workers.engines.openai.whole_answer import unlike
from workers.engines.whisper import audio, request
from workers.engines.whisper.answer import TYPES, Transcript
from workers.engines.whisper.audio import AudioError, NoDecoder
from workers.engines.whisper.request import Ask

log = structlog.get_logger("whisper")

MODEL = "whisper-1"
"""OpenAI's name, used if the config names no model: the server does not tell which it has."""
PATHS = ("/inference", endpoints.TRANSCRIPTIONS.path)
"""Where the server takes jobs: by default, and with OpenAI's path as ``--inference-path``."""
MODALITIES = ("audio",)
FEATURES = ("transcriptions", "translations")
ENGLISH_ALONE = Ignored(
    "translate",
    "the model knows English alone; speech in another language is not translated",
    FEATURES,
    partly=True,
)
"""A translation of English speech is a transcription, so such a request is still served."""
NOT_THERE = (
    Ignored(
        "chunking_strategy",
        "whisper.cpp cuts the audio where it finds best",
        FEATURES,
        (*NOTHING, "auto"),
    ),
    *(
        Ignored(name, "whisper.cpp has no such thing", FEATURES)
        for name in ("include", "known_speaker_names", "known_speaker_references")
    ),
)
"""Fields of OpenAI's API that the server lacks."""
VAD_LACKING = (
    Ignored(request.VAD, request.NO_VAD, FEATURES),
    *(Ignored(name, request.NO_VAD, FEATURES, ("",), partly=True) for name in request.VAD_OPTIONS),
)
"""Fields that a server without a model of speech fails at, or passes over."""
CHECK_TIMEOUT = 60.0
PROBE_TIMEOUT = 10.0
STEP_BACK = 1.0
"""Seconds for which a worker that cannot decode a job keeps its slot, so that it does not take the
job again before a worker that can is free."""
SHORTEST = 0.1
"""Seconds of audio: whisper.cpp hears nothing in less, and OpenAI refuses it."""

_PATIENCE = 30.0
"""Seconds that any job may take."""
_WINDOW = 15.0
"""Seconds of audio counted for a window: it has 30 s, but moves only past what it understood."""
_WORST = 20.0
"""Cost of the worst window, in windows of a tone: dense speech, decoded at all temperatures."""


class WhisperEngine:
    kind = "whisper"

    def __init__(self, config: settings.Engine) -> None:
        self.name = config.name
        self._config = config
        self._models = tuple(config.models) or (MODEL,)
        self._http = Upstream(config.name, config.url, config.api_key.get_secret_value())
        self._path = PATHS[0]
        self._english_only = False
        self._vad = False
        self._pace = 1.0
        self._late = math.inf

    async def open(self) -> None:
        if not audio.can_decode():
            log.warning(
                "engine.no_decoder", engine=self.name, takes=audio.NATIVE, get=audio.INSTALL
            )

    async def close(self) -> None:
        await self._http.close()

    async def discover(self) -> Offer:
        """One slot, and the names of the config: the server tells only its path."""
        await self._http.json("/health")
        self._path = await self._find_path()
        return await self._offer()

    async def _offer(self) -> Offer:
        english = (ENGLISH_ALONE,) if self._english_only else ()
        ignores = (*NOT_THERE, *english, *(() if self._vad else VAD_LACKING))
        weights = await digest.find(self._config)
        about = 1, 0, MODALITIES, FEATURES, ignores, request.KNOWS, weights
        return Offer(
            1,
            tuple(ServedModel(name, self.name, self.kind, *about) for name in self._models),
        )

    async def check(self) -> Offer:
        """Transcribe a second of a tone as French; an English-only model answers with English."""
        began = time.monotonic()
        # No further temperatures: a tone would be decoded at each of them. No look for speech,
        # which a tone is not: it would not be heard, whatever the server does by default.
        fields = {"temperature_inc": "0", request.VAD: "false"}
        ask = Ask(translate=False, language="fr", fields=fields)
        status, document = await self._hear(ask, tone(), CHECK_TIMEOUT)
        if status != 200:
            raise EngineFault(f"{self.name} failed a small job: {status}", away=True)
        self._english_only = self._understood(document).language == "english"
        self._pace = time.monotonic() - began  # seconds for the one window of a tone
        ask.fields[request.VAD] = "true"
        status, _ = await self._hear(ask, tone(), CHECK_TIMEOUT)
        self._vad = status == 200  # else a 500, at once (measured)
        return await self._offer()

    async def probe(self) -> bool:
        """Whether the server answers and its job is not late: pages work even if a job hangs.

        A job is late after a time that depends on its audio's length and the check (`_patience`).
        """
        if time.monotonic() > self._late:
            return False
        status, _ = await self._http.ask("GET", "/health", PROBE_TIMEOUT)
        return status == 200

    async def said_kind(self) -> str:
        return await identity.ask(self._http)

    async def run(self, job: Job, body: bytes, sink: Sink) -> End:
        began = time.monotonic()
        try:
            kind, known = job.content_type, {"lenient": job.lenient, "vad": self._vad}
            read = partial(request.read, job.endpoint, body, kind, **known)
            ask = await aside(body, read)
            transcript = await self._transcribe(ask)
        except Refusal as fault:
            return fault.answer(sink)
        finally:
            self._late = math.inf  # no job runs now, as there is one slot
        sink.start(200, sse.CONTENT_TYPE if ask.stream else TYPES[ask.format])
        sink.data(transcript.events(ask) if ask.stream else transcript.render(ask))
        await sink.settle()
        took, heard = time.monotonic() - began, transcript.duration
        return End(
            -1, transcript.tokens, 0, round(took * 1000), audio_ms=max(0, round(heard * 1000))
        )

    async def _transcribe(self, ask: Ask) -> Transcript:
        """Raises Refusal for audio or a language that the model cannot take. Raises EngineFault for
        audio that only this machine cannot decode, so that another worker gets the job."""
        if self._english_only and ask.language not in ("auto", "en"):
            why = "Invalid value for 'language': this model knows English alone."
            raise Refusal(why, param="language", source="engine")
        try:
            found = audio.sniff(ask.audio)
            heard, length = ask.audio, found.seconds
            if not found.native:
                pcm = await audio.decode(ask.audio, found)
                heard, length = audio.wav(pcm), len(pcm) / 2 / audio.RATE
        except AudioError as fault:
            raise Refusal(str(fault), param="file") from None
        except NoDecoder as fault:
            await asyncio.sleep(STEP_BACK)
            raise EngineFault(f"{self.name}: {fault}") from None
        _need(length)  # the server answers 500 to no audio at all
        self._late = time.monotonic() + self._patience(length)
        status, document = await self._hear(ask, heard)
        if status == 400:
            why = f"The audio cannot be decoded: it is not the {found.name} that it begins as."
            raise Refusal(why, param="file", source="engine")
        if status != 200:
            raise EngineFault(f"{self.name}: status {status}", away=status in (404, 503))
        transcript = self._understood(document)
        _need(transcript.duration)
        return transcript

    async def _hear(
        self, ask: Ask, heard: bytes, timeout: float | None = None
    ) -> tuple[int, bytes]:
        return await self._http.ask("POST", self._path, timeout, *ask.form(heard))

    def _understood(self, document: bytes) -> Transcript:
        try:
            return Transcript(document)
        except ValueError as fault:
            raise unlike(self.name, str(fault), document) from None

    def _patience(self, length: float) -> float:
        """Most seconds that a job with `length` seconds of audio may take."""
        return _PATIENCE + _WORST * self._pace * (1 + length / _WINDOW)

    async def _find_path(self) -> str:
        """The path for jobs: only that one answers OPTIONS."""
        for path in PATHS:
            async with self._http.call("OPTIONS", path) as answer:
                server = answer.header("server", "whisper.cpp")
                if answer.status == 200 and server == "whisper.cpp":
                    return path
        why = f"{self.name} does not answer like whisper-server: is the URL right?"
        raise EngineFault(why, away=True)


def _need(seconds: float) -> None:
    """Raises Refusal for audio that is too short."""
    if seconds < SHORTEST:
        why = f"The audio is too short: it has to last {SHORTEST} seconds at least."
        raise Refusal(why, param="file")


def tone(seconds: float = 1.0, hertz: float = 440.0) -> bytes:
    """A quiet tone as WAV, 16 kHz mono: audio without speech."""
    count, turn = int(seconds * audio.RATE), 2 * math.pi * hertz / audio.RATE
    samples = array.array("h", (int(8000 * math.sin(turn * index)) for index in range(count)))
    return audio.wav(samples.tobytes())
