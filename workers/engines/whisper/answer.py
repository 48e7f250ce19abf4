"""Turns whisper-server's verbose answer into OpenAI's five formats, and into events.

What is added or mended (measured on whisper.cpp 1.8.5; shapes: OpenAI's API reference):

- The server's `text` has a leading blank and a line break after each segment; here it is one line.
- The server's `words` are tokens within segments; here they are whole words at the top level,
  without punctuation.
- The server gives no `compression_ratio` and `seek`. The ratio is Whisper's own definition; `seek`
  is the segment's start in hundredths of a second, as whisper.cpp does not tell its window.
- `usage` is the audio's duration, in whole seconds.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from schemas.api import media
from workers.engines.whisper.request import Ask

TYPES = {
    "json": "application/json",
    "verbose_json": "application/json",
    "text": "text/plain; charset=utf-8",
    "srt": "application/x-subrip; charset=utf-8",
    "vtt": "text/vtt; charset=utf-8",
}
_UNSPACED = frozenset({"chinese", "japanese", "thai", "lao", "myanmar", "cantonese"})
"""Languages without blanks between words (openai/whisper, tokenizer.py)."""
_PUNCTUATION = " \"'“¿([{\"'.。,，!！?？:：”)]}、…;"
"""openai/whisper's timing.py attaches these to words; OpenAI's hosted words have none."""
_DASHES = frozenset("-–—")
_DETECTED = ("detected_language", "detected_language_probability", "language_probabilities")
_BROKEN = "\ufffd"
"""The server writes this for a token that is only part of a character."""


@dataclass(frozen=True, slots=True)
class Segment:
    text: str
    start: float
    end: float
    raw: Mapping[str, Any]


class Transcript:
    """An answer of whisper-server. Raises ValueError for any other document.

    `language`: its English name in lower case, as OpenAI gives it. `duration`: seconds of audio.
    """

    def __init__(self, document: bytes) -> None:
        try:
            raw = self._raw = orjson.loads(document)
            self.duration = float(raw["duration"])
            self.language = str(raw["language"])
            self._segments = [_segment(each, self.duration) for each in raw["segments"]]
        except (KeyError, TypeError, AttributeError, ValueError):
            raise ValueError("no transcript") from None

    @property
    def tokens(self) -> int:
        return sum(len(segment.raw.get("tokens", ())) for segment in self._segments)

    def events(self, ask: Ask) -> bytes:
        """The text in segments and then as a whole, as OpenAI streams it."""
        text, at, pieces = self._text(), 0, []
        for segment in self._segments:
            told = segment.text if at else segment.text.lstrip()
            pieces.append(text[at : at + len(told)])
            at += len(told)
        return media.transcript(pieces, text, self._usage(ask).get("usage"))

    def render(self, ask: Ask) -> bytes:
        match ask.format:
            case "json":
                return orjson.dumps({"text": self._text(), **self._usage(ask)})
            case "verbose_json":
                return orjson.dumps(self._verbose(ask))
            case "srt":
                return self._cues(",", 1 + int(ask.fields.get("offset_n", 0))).encode()
            case "vtt":
                return f"WEBVTT\n\n{self._cues('.')}".encode()
            case _:
                return f"{self._text()}\n".encode()

    def _text(self) -> str:
        return "".join(segment.text for segment in self._segments).strip()

    def _usage(self, ask: Ask) -> dict[str, Any]:
        """OpenAI reports usage for transcriptions, but not for translations."""
        if ask.translate:
            return {}
        return {"usage": {"type": "duration", "seconds": math.ceil(self.duration)}}

    def _verbose(self, ask: Ask) -> dict[str, Any]:
        document: dict[str, Any] = {
            "task": "translate" if ask.translate else "transcribe",
            "language": "english" if ask.translate else self.language,
            "duration": round(self.duration, 3),
            "text": self._text(),
        }
        if ask.words:
            document["words"] = self._words(document["language"] not in _UNSPACED)
        if not ask.granularities or "segment" in ask.granularities:
            document["segments"] = [_full(i, s, ask) for i, s in enumerate(self._segments)]
        if ask.has("no_language_probabilities", "false"):
            document |= {name: self._raw[name] for name in _DETECTED if name in self._raw}
        return {**document, **self._usage(ask)}

    def _cues(self, point: str, first: int | None = None) -> str:
        """Subtitles. `first`: the first one's number, if they have numbers."""
        cues = []
        for index, segment in enumerate(self._segments):
            number = f"{index + first}\n" if first is not None else ""
            times = f"{_stamp(segment.start, point)} --> {_stamp(segment.end, point)}"
            # Players would read an arrow in the text as a line of times (openai/whisper, utils.py).
            text = segment.text.strip().replace("-->", "->")
            cues.append(f"{number}{times}\n{text}\n\n")
        return "".join(cues)

    def _words(self, spaced: bool) -> list[dict[str, Any]]:
        tokens = [token for segment in self._segments for token in segment.raw.get("words", ())]
        groups = _grouped(tokens, spaced)
        whole = "".join(segment.text for segment in self._segments)
        texts = _mended([str(group[0]) for group in groups], whole, spaced)
        words = []
        for text, (_, start, end) in zip(texts, groups, strict=True):
            word = text.strip(_PUNCTUATION)
            if word and word not in _DASHES:
                words.append({"word": word, "start": start, "end": end})
        return words


def _segment(raw: Mapping[str, Any], duration: float) -> Segment:
    """The model always sees 30 s, so a segment may seem to end after the audio: its times are cut.
    Without timestamps a segment has no times."""
    if "start" not in raw and "end" not in raw:
        return Segment(str(raw["text"]), 0.0, 0.0, raw)
    start, end = (min(_seconds(raw[name]), _seconds(duration)) for name in ("start", "end"))
    return Segment(str(raw["text"]), start, end, raw)


def _full(index: int, segment: Segment, ask: Ask) -> dict[str, Any]:
    """OpenAI's segment, with the server's `words` (one a token) if `token_timestamps` is set."""
    packed = segment.text.strip().encode()
    times = {"seek": round(segment.start * 100), "start": segment.start, "end": segment.end}
    tokens = {"words": segment.raw.get("words", [])} if ask.has("token_timestamps", "true") else {}
    return {
        "id": index,
        **(times if ask.timed else {}),
        "text": segment.text,
        "tokens": list(segment.raw.get("tokens", ())),
        "temperature": _number(segment.raw.get("temperature")),
        "avg_logprob": _number(segment.raw.get("avg_logprob")),
        "compression_ratio": len(packed) / len(zlib.compress(packed)),
        "no_speech_prob": _number(segment.raw.get("no_speech_prob")),
        **tokens,
    }


def _seconds(value: Any) -> float:
    return round(float(value), 2)


def _number(value: Any) -> float:
    """A number, or 0: the server writes null for the mean of no tokens."""
    return float(value) if isinstance(value, int | float) else 0.0


def _stamp(seconds: float, point: str) -> str:
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{point}{milliseconds:03}"


Group = tuple[str, float, float]


def _grouped(tokens: Sequence[Mapping[str, Any]], spaced: bool) -> list[Group]:
    """The tokens joined into words: (text, start, end)."""
    groups: list[Group] = []
    for token in tokens:
        text = str(token["word"])
        start, end = _seconds(token.get("start", 0)), _seconds(token.get("end", 0))
        if groups and _joins(groups[-1][0], text, spaced):
            before, first, _ = groups.pop()
            groups.append((before + text, first, end))
        else:
            groups.append((text, start, end))
    return groups


def _joins(before: str, text: str, spaced: bool) -> bool:
    if spaced:
        return not text.startswith(" ")
    return before.endswith(_BROKEN) and text.startswith(_BROKEN)


def _mended(texts: list[str], whole: str, spaced: bool) -> list[str]:
    """The words' texts; characters that were split between tokens come from the `whole` text."""
    if not any(_BROKEN in text for text in texts):
        return texts
    if spaced:
        split = whole.split()
        # With another number of words, it is not known which is which.
        return split if len(split) == len(texts) else texts
    mended: list[str] = []
    at = 0
    for index, text in enumerate(texts):
        after = texts[index + 1] if index + 1 < len(texts) else ""
        found = whole.find(after, at + 1) if after else len(whole)
        end = at + len(text) if _BROKEN not in text or found < 0 else found
        mended.append(whole[at:end])
        at = end
    return mended
