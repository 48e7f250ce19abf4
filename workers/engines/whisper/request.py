"""Checks OpenAI's request for a transcription or translation, and writes whisper-server's.

whisper-server (measured on 1.8.5) answers a bad number with a 500, any other fault with a bare
text, and ignores unknown fields. So everything is checked here, and fields that others are known to
have and the server would ignore are refused by name. A text that nobody is known to have is left
out, and the ingress warns of it. Fields and bounds: OpenAI's API reference, and for whisper.cpp's
own fields its examples/server/server.cpp.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from schemas import multipart
from schemas.api import media
from schemas.multipart import Part
from workers.engines.openai.refusal import Refusal
from workers.engines.openai.request_body import form_parts
from workers.engines.whisper import languages

FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
GRANULARITIES = ("segment", "word")
REPEATED = ("timestamp_granularities[]", "timestamp_granularities")
PROMPT_KEPT = 2048
"""Bytes at the end of a prompt that are sent: the model reads only the last 224 tokens, about a
thousand letters. whisper.cpp's tokenizer needs stack for each letter of a word and time with the
cube of its length (measured: a word of 20,000 letters took 48 s, one of 60,000 killed it)."""


@dataclass(slots=True)
class Ask:
    """A checked request. `translate`: into English. `stream`: send the text in events. `fields`:
    whisper-server's own fields, as text."""

    translate: bool
    audio: bytes = b""
    format: str = "json"
    stream: bool = False
    granularities: frozenset[str] = frozenset()
    language: str = languages.AUTO
    fields: dict[str, str] = field(default_factory=dict)

    @property
    def words(self) -> bool:
        return "word" in self.granularities

    @property
    def timed(self) -> bool:
        """Whether the answer tells the times of segments."""
        return not self.has("no_timestamps", "true")

    def has(self, name: str, value: str) -> bool:
        return self.fields.get(name) == value

    def form(self, audio: bytes) -> tuple[bytes, str]:
        """(body, content type) for whisper-server: always in its richest format.

        `language` is always sent, because the server's default is English but OpenAI detects it.
        Without `max_len` the server cuts segments after 60 letters, even within a sentence.
        Probabilities of languages double the time, so they are off unless asked for.
        """
        likely = self.format == "verbose_json" and self.has("no_language_probabilities", "false")
        fields = {
            "response_format": "verbose_json",
            "token_timestamps": "true" if self.words or "max_len" in self.fields else "false",
            "language": self.language,
            "translate": "true" if self.translate else "false",
            "max_len": "100000",
            **self.fields,  # the client's own words count
            "no_language_probabilities": "false" if likely else "true",
        }
        parts = [Part(name, value.encode()) for name, value in fields.items()]
        return multipart.encode([*parts, Part("file", audio, "audio")])


def read(
    endpoint: str, body: bytes, content_type: str, *, lenient: bool = False, vad: bool = True
) -> Ask:
    """Check a request. Raises Refusal, which names the field at fault.

    `lenient`: unsupported fields are ignored; wrong values are still refused. `vad`: the server has
    a model that finds speech, and takes the fields about it.
    """
    parts = form_parts(body, content_type)
    ask = Ask(translate=endpoint.endswith("/translations"))
    seen: set[str] = set()
    for part in parts:
        if part.name in seen and not (part.name in REPEATED or part.name.endswith("[]")):
            raise Refusal(f"{part.name!r} is given twice.", param=part.name)
        seen.add(part.name)
        try:
            _take(ask, part)
        except Unsupported as fault:
            if not lenient:
                what = f"{part.name!r} is not supported by whisper.cpp{fault}."
                raise Refusal(what, param=part.name, code="unsupported_parameter") from None
    if "file" not in seen:
        raise Refusal("Missing required parameter: 'file'.", param="file")
    if ask.words and ask.format != "verbose_json":
        name = REPEATED[0]
        raise Refusal(f"{name!r} needs response_format 'verbose_json'.", param=name)
    if ask.stream and ask.format not in ("json", "text"):
        why = "Invalid value for 'response_format': a stream carries the text alone ('json')."
        raise Refusal(why, param="response_format")
    _need_times(ask)
    if not vad:
        _without_vad(ask, lenient)
    return ask


def _without_vad(ask: Ask, lenient: bool) -> None:
    """Take out what the server would fail at (`vad`) or pass over. Raises Refusal."""
    if ask.has(VAD, "true") and not lenient:
        what = f"{VAD!r} is not supported here: {NO_VAD}."
        raise Refusal(what, param=VAD, code="unsupported_parameter")
    for name in (VAD, *VAD_OPTIONS):
        ask.fields.pop(name, None)


def _need_times(ask: Ask) -> None:
    """Raises Refusal if a request needs times, but switches them off."""
    for name, off, needed in (
        ("no_timestamps", not ask.timed, ask.words or ask.format in ("srt", "vtt")),
        ("token_timestamps", ask.has("token_timestamps", "false"), ask.words),
    ):
        if off and needed:
            why = f"Invalid value for {name!r}: without times there are no subtitles and no words."
            raise Refusal(why, param=name)


class Unsupported(Exception):
    """The engine would ignore the field; the message follows "is not supported by whisper.cpp"."""


def _take(ask: Ask, part: Part) -> None:
    if part.name == "file":
        ask.audio = _upload(part)
        return
    taker = _TAKERS.get(part.name)
    if taker is None:
        if part.filename is not None or part.name.partition("[")[0] in media.TRANSCRIPTION.names:
            raise Unsupported
        return
    try:
        taker(ask, part.name, _text(part))
    except ValueError as fault:
        what = f"Invalid value for {part.name!r}: {fault}."
        raise Refusal(what, param=part.name) from None


def _upload(part: Part) -> bytes:
    if part.filename is None:
        raise Refusal("'file' has to be an upload: a part with a filename.", param="file")
    if not part.content:
        raise Refusal("'file' is empty.", param="file")
    return part.content


def _text(part: Part) -> str:
    if part.filename is not None:
        raise ValueError("it has to be text, not an upload")
    try:
        return part.content.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None


def _model(ask: Ask, name: str, value: str) -> None:
    """Nothing to do: the ingress has routed the job by the model."""


def _language(ask: Ask, name: str, value: str) -> None:
    ask.language = languages.code(value)


def _prompt(ask: Ask, name: str, value: str) -> None:
    if "\0" in value:
        raise ValueError("it holds a NUL")
    ask.fields[name] = value.encode()[-PROMPT_KEPT:].decode(errors="ignore")


def _format(ask: Ask, name: str, value: str) -> None:
    if value not in FORMATS:
        raise ValueError(f"{value[:40]!r} is none of {', '.join(FORMATS)}")
    ask.format = value


def _granularity(ask: Ask, name: str, value: str) -> None:
    if value not in GRANULARITIES:
        raise ValueError(f"{value[:40]!r} is none of {', '.join(GRANULARITIES)}")
    ask.granularities |= {value}


def _stream(ask: Ask, name: str, value: str) -> None:
    ask.stream = _truth(value)


def _chunking(ask: Ask, name: str, value: str) -> None:
    if value != "auto":
        raise Unsupported(": it cuts the audio where it finds best")


def _translate(ask: Ask, name: str, value: str) -> None:
    ask.translate = ask.translate or _truth(value)


def _absent(ask: Ask, name: str, value: str) -> None:
    if _truth(value):
        raise Unsupported


def _no_context(ask: Ask, name: str, value: str) -> None:
    if not _truth(value):
        raise Unsupported(": it remembers nothing of what it heard before")


def _called(own: str) -> Callable[[Ask, str, str], None]:
    def take(ask: Ask, name: str, value: str) -> None:
        raise Unsupported(f"'s server, which calls it {own!r}")

    return take


def _truth(value: str) -> bool:
    if value.lower() not in ("true", "false", "1", "0"):
        raise ValueError("it has to be true or false")
    return value.lower() in ("true", "1")


def _flag(ask: Ask, name: str, value: str) -> None:
    ask.fields[_ALIASES.get(name, name)] = "true" if _truth(value) else "false"


def _number(low: float, high: float) -> Callable[[Ask, str, str], None]:
    def take(ask: Ask, name: str, value: str) -> None:
        try:
            number = float(value)
        except ValueError:
            number = math.nan  # which is in no range
        if not low <= number <= high:
            raise ValueError(f"it has to be a number from {low:g} to {high:g}")
        ask.fields[name] = f"{number:.6f}"

    return take


def _whole(low: int, high: int, *usual: int) -> Callable[[Ask, str, str], None]:
    """`usual`: values that mean the server's default."""

    def take(ask: Ask, name: str, value: str) -> None:
        if not value.lstrip("-").isdecimal() or not low <= int(value) <= high:
            raise ValueError(f"it has to be a whole number from {low} to {high}")
        if int(value) not in usual:
            ask.fields[name] = str(int(value))

    return take


_DAY_MS = 24 * 3600 * 1000
_DECODERS = 8
"""whisper.cpp's WHISPER_MAX_DECODERS."""
_ALIASES = {"suppress_non_speech": "suppress_nst"}

Taker = Callable[[Ask, str, str], None]

VAD = "vad"
"""Asks that only what is speech be heard."""
NO_VAD = "the server was started without --vad-model"
VAD_OPTIONS: dict[str, Taker] = {
    "vad_threshold": _number(0, 1),
    "vad_min_speech_duration_ms": _whole(0, _DAY_MS),
    "vad_min_silence_duration_ms": _whole(0, _DAY_MS),
    "vad_max_speech_duration_s": _number(0, _DAY_MS / 1000),
    "vad_speech_pad_ms": _whole(0, 60_000),
    # Seconds that each piece of speech has of the next one: they are heard twice.
    "vad_samples_overlap": _number(0, 1),
}
"""How speech is found, if it is looked for: by `vad`, or as the server was started with --vad."""

_OPENAI: dict[str, Taker] = {
    "model": _model,
    "language": _language,
    "prompt": _prompt,
    "response_format": _format,
    "temperature": _number(0, 1),
    **dict.fromkeys(REPEATED, _granularity),
    "stream": _stream,
    "chunking_strategy": _chunking,
}
_OWN: dict[str, Taker] = {
    "translate": _translate,
    "temperature_inc": _number(0, 1),
    "no_speech_thold": _number(0, 1),
    "entropy_thold": _number(0, 100),
    "logprob_thold": _number(-100, 0),
    "word_thold": _number(0, 1),
    "best_of": _whole(1, _DECODERS),
    "beam_size": _whole(-1, _DECODERS, -1, 0),
    "max_context": _whole(-1, 1024, -1),
    "max_len": _whole(0, 100_000, 0),
    "audio_ctx": _whole(0, 1500),
    "offset_t": _whole(0, _DAY_MS),
    "offset_n": _whole(0, 1_000_000),
    "duration": _whole(0, _DAY_MS),
    **dict.fromkeys(("split_on_word", "suppress_nst", "suppress_non_speech"), _flag),
    **dict.fromkeys(("no_timestamps", "token_timestamps", "carry_initial_prompt"), _flag),
    "no_language_probabilities": _flag,
    VAD: _flag,
    **VAD_OPTIONS,
}
_NOT_HAD: dict[str, Taker] = {
    **dict.fromkeys(("diarize", "tinydiarize", "detect_language", "debug_mode"), _absent),
    "offset_t_ms": _called("offset_t"),
    "duration_ms": _called("duration"),
    "no_context": _no_context,
}
"""Fields that are refused, unless they ask for nothing or for the default."""
_TAKERS = {**_OPENAI, **_OWN, **_NOT_HAD}
KNOWS = (f"transcriptions,translations {' '.join(_OWN)}",)
"""whisper.cpp's own fields, for the card."""
