"""OpenAI's audio: transcriptions, translations, speech.

A transcript is the words of the `prompt` field, or without one what `heard` makes of the file. A
second of audio is 10 tokens; a word is spoken in 0.2 s and 5 tokens.
"""

from __future__ import annotations

import base64
import hashlib
import io
import math
import wave
from typing import TYPE_CHECKING, Any

from aiohttp import web

from tests.doubles.base import sse
from tests.doubles.providers import words
from tests.doubles.providers.base import EXCHANGE, FAULT
from tests.doubles.providers.faults import Refused
from tests.doubles.providers.flow import Flow, Piece, send

if TYPE_CHECKING:
    from tests.doubles.providers.openai import OpenAI

HEARING = ("whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe")
SPEAKING = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")
MODELS = (*HEARING, *SPEAKING)
WORD_S = 0.2
WORD_TOKENS = 5
SECOND_TOKENS = 10
TYPES = {
    "mp3": "audio/mpeg",
    "opus": "audio/opus",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
_RATE = 24_000
_FRAME = b"\xff\xfb\x90\x00" + bytes(413)
"""417 bytes of silent MP3: 26 ms at 44.1 kHz, 128 kbit/s."""


def routes(sim: OpenAI) -> list[web.RouteDef]:
    made = _Audio(sim)
    return [
        web.post(f"{sim.prefix}/audio/transcriptions", made.transcriptions),
        web.post(f"{sim.prefix}/audio/translations", made.translations),
        web.post(f"{sim.prefix}/audio/speech", made.speech),
    ]


def heard(file: bytes) -> str:
    """What is said in `file`, if no prompt says it."""
    return f"heard #{hashlib.sha256(file).hexdigest()[:8]} today"


def seconds_of(file: bytes) -> float:
    """Of a WAV, its own; of other files as if they had 128 kbit/s."""
    try:
        with wave.open(io.BytesIO(file)) as opened:
            return float(opened.getnframes() / opened.getframerate())
    except (wave.Error, EOFError):
        return round(len(file) / 16_000, 3)


class _Audio:
    def __init__(self, sim: OpenAI) -> None:
        self._sim = sim

    async def transcriptions(self, request: web.Request) -> web.StreamResponse:
        return await self._hear(request, "transcribe")

    async def translations(self, request: web.Request) -> web.StreamResponse:
        return await self._hear(request, "translate")

    async def _hear(self, request: web.Request, task: str) -> web.StreamResponse:
        exchange = request[EXCHANGE]
        asked = exchange.body if isinstance(exchange.body, dict) else {}
        if not exchange.files.get("file"):
            raise Refused(400, "Missing required parameter: 'file'.", param="file")
        self._sim.admit_tokens(exchange.model, 0)
        file = exchange.files["file"][0]
        made = _Heard(exchange.model, asked, file, task, request[FAULT].metered)
        exchange.used.seconds = made.seconds
        stream = exchange.stream and "whisper" not in exchange.model  # which ignores it
        return await send(self._sim, request, made.flow(stream), made.input)

    async def speech(self, request: web.Request) -> web.StreamResponse:
        exchange = request[EXCHANGE]
        asked = exchange.body if isinstance(exchange.body, dict) else {}
        said = str(asked.get("input") or "")
        form = asked.get("response_format") or "mp3"
        if not said or form not in TYPES:
            name = "response_format" if said else "input"
            raise Refused(400, f"Invalid value for '{name}'.", code="invalid_value", param=name)
        spoken = said.split()
        self._sim.admit_tokens(exchange.model, len(spoken))
        exchange.used.characters = len(said)
        events = asked.get("stream_format") == "sse"
        if events and exchange.model.startswith("tts-1"):
            told = "stream_format 'sse' is not supported for this model."
            raise Refused(400, told, code="unsupported_value", param="stream_format")
        flow = _events(spoken, form, request[FAULT].metered) if events else _sound(spoken, form)
        return await send(self._sim, request, flow, len(spoken))


class _Heard:
    def __init__(
        self, model: str, asked: dict[str, Any], file: bytes, task: str, metered: bool
    ) -> None:
        self._asked, self._task, self._metered = asked, task, metered
        self._whisper = "whisper" in model
        self._pieces = words.answer(asked.get("prompt") or heard(file))
        self._form = asked.get("response_format") or "json"
        self.seconds = seconds_of(file)
        self._text = len(str(asked.get("prompt") or "").split())
        self.input = 0 if self._whisper else self._text + self._sound_tokens
        if not self._whisper and self._form not in ("json", "text"):
            told = f"response_format '{self._form}' is not compatible with model '{model}'."
            raise Refused(400, told, code="unsupported_value", param="response_format")

    @property
    def _sound_tokens(self) -> int:
        return math.ceil(self.seconds * SECOND_TOKENS)

    def flow(self, stream: bool) -> Flow:
        size = 0 if self._whisper else 1
        if not stream:
            pieces = [Piece(size, piece, steps=1) for piece in self._pieces]
            return Flow(pieces, whole=self._document)
        pieces = [
            Piece(size, piece, sse({"type": "transcript.text.delta", "delta": piece}))
            for piece in self._pieces
        ]
        done = {"type": "transcript.text.done", "text": self.text, **self._usage()}
        return Flow(pieces, tail=sse(done), done=b"data: [DONE]\n\n", error=_error)

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def _usage(self) -> dict[str, Any]:
        if not self._metered:
            return {}
        if self._whisper:
            return {"usage": {"type": "duration", "seconds": math.ceil(self.seconds)}}
        details = {"text_tokens": self._text, "audio_tokens": self._sound_tokens}
        total = {"output_tokens": len(self._pieces), "total_tokens": self.input + len(self._pieces)}
        usage = {"type": "tokens", "input_tokens": self.input, "input_token_details": details}
        return {"usage": {**usage, **total}}

    def _document(self) -> Any:
        end = _clock(self.seconds)
        match self._form:
            case "text":
                return _plain(f"{self.text}\n")
            case "srt":
                return _plain(f"1\n00:00:00,000 --> {end.replace('.', ',')}\n{self.text}\n\n\n")
            case "vtt":
                return _plain(f"WEBVTT\n\n00:00:00.000 --> {end}\n{self.text}\n\n")
            case "verbose_json":
                return {**self._verbose(), **self._usage()}
            case _:
                return {"text": self.text, **self._usage()}

    def _verbose(self) -> dict[str, Any]:
        segment = {
            "id": 0,
            "seek": 0,
            "start": 0.0,
            "end": self.seconds,
            "text": self.text,
            "tokens": list(range(len(self._pieces))),
            "temperature": 0.0,
            "avg_logprob": -0.3,
            "compression_ratio": 1.2,
            "no_speech_prob": 0.01,
        }
        told = {"task": self._task, "language": "english", "duration": self.seconds}
        return {**told, "text": self.text, "segments": [segment]}


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"00:{int(minutes):02}:{rest:06.3f}"


def _plain(text: str) -> web.Response:
    return web.Response(text=text, content_type="text/plain")


def _spoken(form: str, at: int) -> bytes:
    """The sound of the word at `at`; the first has the file's head."""
    if form == "mp3":
        return _FRAME * 8
    samples = bytes(2 * int(_RATE * WORD_S))
    if form == "wav" and at == 0:
        # of unknown length, as everything that is sent while it is made
        head = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\1\0\1\0"
        rate = _RATE.to_bytes(4, "little") + (2 * _RATE).to_bytes(4, "little")
        return head + rate + b"\2\0\x10\0data\xff\xff\xff\xff" + samples
    marks = {"opus": b"OggS", "flac": b"fLaC"}
    return (marks.get(form, b"") if at == 0 else b"") + samples


def _sound(spoken: list[str], form: str) -> Flow:
    pieces = [
        Piece(WORD_TOKENS, text, _spoken(form, at), 1)
        for at, text in enumerate(words.spaced(spoken))
    ]
    return Flow(pieces, content_type=TYPES[form])


def _events(spoken: list[str], form: str, metered: bool) -> Flow:
    pieces = []
    for at, text in enumerate(words.spaced(spoken)):
        audio = base64.b64encode(_spoken(form, at)).decode()
        raw = sse({"type": "speech.audio.delta", "audio": audio})
        pieces.append(Piece(WORD_TOKENS, text, raw, 1))
    size = WORD_TOKENS * len(spoken)
    total = len(spoken) + size
    usage = {"input_tokens": len(spoken), "output_tokens": size, "total_tokens": total}
    done = {"type": "speech.audio.done", **({"usage": usage} if metered else {})}
    return Flow(pieces, tail=sse(done), error=_error)


def _error(refused: Refused) -> bytes:
    told = {"type": "server_error", "code": refused.code, "param": None}
    return sse({"error": {**told, "message": "The server had an error."}})
