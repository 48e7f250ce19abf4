from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.doubles import whisper
from workers.engines.whisper.answer import Transcript
from workers.engines.whisper.request import Ask

DATA = Path(whisper.__file__).parent
TEXT = (
    "And so my fellow Americans ask not what your country can do for you "
    "ask what you can do for your country."
)


def render(document: bytes, format: str, *granularities: str, translate: bool = False) -> Any:
    ask = Ask(translate, format=format, granularities=frozenset(granularities))
    answer = Transcript(document).render(ask)
    return orjson.loads(answer) if format.endswith("json") else answer.decode()


@pytest.fixture
def speech() -> bytes:
    """Two segments and their tokens, as whisper-server gave them for 11 s of speech."""
    return (DATA / "words.json").read_bytes()


def made(*segments: tuple[str, list[str]], language: str = "english") -> bytes:
    found = []
    for at, (text, tokens) in enumerate(segments):
        words = [{"word": token, "start": at, "end": at + 1} for token in tokens]
        found.append({"id": at, "text": text, "start": at, "end": at + 1, "words": words})
    return orjson.dumps(
        {"task": "transcribe", "language": language, "duration": 2.5, "segments": found}
    )


def words(document: bytes) -> list[str]:
    found = render(document, "verbose_json", "word")["words"]
    return [word["word"] for word in found]


def test_json_is_one_line_with_the_duration(speech: bytes) -> None:
    usage = {"type": "duration", "seconds": 11}
    assert render(speech, "json") == {"text": TEXT, "usage": usage}
    assert render(speech, "json", translate=True) == {"text": TEXT}


def test_text(speech: bytes) -> None:
    assert render(speech, "text") == f"{TEXT}\n"


def test_verbose_json_has_openais_fields(speech: bytes) -> None:
    answer = render(speech, "verbose_json")
    assert set(answer) == {"task", "language", "duration", "text", "segments", "usage"}
    assert (answer["task"], answer["language"], answer["duration"]) == ("transcribe", "english", 11)
    assert answer["text"] == TEXT
    for index, segment in enumerate(answer["segments"]):
        assert list(segment) == [
            "id",
            "seek",
            "start",
            "end",
            "text",
            "tokens",
            "temperature",
            "avg_logprob",
            "compression_ratio",
            "no_speech_prob",
        ]
        assert segment["id"] == index
        assert segment["seek"] == round(segment["start"] * 100)
        packed = segment["text"].strip().encode()
        assert segment["compression_ratio"] == len(packed) / len(zlib.compress(packed))
        assert segment["tokens"]
        assert segment["avg_logprob"] < 0


def test_words_come_when_asked_for_and_segments_when_not_only_words_are(speech: bytes) -> None:
    assert "segments" not in render(speech, "verbose_json", "word")
    assert "words" not in render(speech, "verbose_json", "segment")
    both = render(speech, "verbose_json", "word", "segment")
    assert both["segments"]
    spoken = [word["word"] for word in both["words"]]
    assert spoken == TEXT.rstrip(".").split()
    starts = [word["start"] for word in both["words"]]
    assert starts == sorted(starts)
    assert all(word["end"] >= word["start"] for word in both["words"])


def test_a_translation_is_english(speech: bytes) -> None:
    answer = render(made(("a", [])), "verbose_json", translate=True)
    assert (answer["task"], answer["language"]) == ("translate", "english")


def test_subtitles() -> None:
    document = made((" Hello.", []), (" a --> b", []))
    assert render(document, "srt") == (
        "1\n00:00:00,000 --> 00:00:01,000\nHello.\n\n2\n00:00:01,000 --> 00:00:02,000\na -> b\n\n"
    )
    assert render(document, "vtt") == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\nHello.\n\n"
        "00:00:01.000 --> 00:00:02.000\na -> b\n\n"
    )


def own(document: bytes, kind: str, **fields: str) -> Any:
    """What is rendered for a request with whisper-server's own fields."""
    body = Transcript(document).render(Ask(translate=False, format=kind, fields=fields))
    return body.decode() if kind == "srt" else orjson.loads(body)


def test_subtitles_may_be_numbered_from_another_one_on() -> None:
    document = made((" a", []), (" b", []))
    cues = own(document, "srt", offset_n="10").strip().split("\n\n")
    assert [cue.partition("\n")[0] for cue in cues] == ["11", "12"]


def test_without_timestamps_segments_have_none() -> None:
    untimed = orjson.loads(made((" a", ["a"])))
    for name in ("start", "end"):
        del untimed["segments"][0][name]
    document = orjson.dumps(untimed)
    assert render(document, "json")["text"] == "a"
    (segment,) = own(document, "verbose_json", no_timestamps="true")["segments"]
    assert segment["text"] == " a"
    assert segment.keys().isdisjoint({"start", "end", "seek"})


def test_times_of_tokens_come_as_the_server_has_them(speech: bytes) -> None:
    (first, _) = own(speech, "verbose_json", token_timestamps="true")["segments"]
    assert first["words"][0]["word"] == " And"
    (first, _) = own(speech, "verbose_json")["segments"]
    assert "words" not in first


def test_languages_and_how_likely_they_are(speech: bytes) -> None:
    told = {
        "detected_language": "english",
        "detected_language_probability": 0.9,
        "language_probabilities": {"en": 0.9},
    }
    document = orjson.dumps({**orjson.loads(speech), **told})
    found = own(document, "verbose_json", no_language_probabilities="false")
    assert found.items() >= told.items()
    assert own(document, "verbose_json").keys().isdisjoint(told)


def test_times_over_an_hour() -> None:
    long = orjson.loads(made((" x", [])))
    long["duration"] = 4000
    long["segments"][0].update(start=3600, end=3725.25)
    assert "01:00:00,000 --> 01:02:05,250" in render(orjson.dumps(long), "srt")


def test_nothing_is_said_after_the_end() -> None:
    short = orjson.loads(made((" x", [])))
    short["segments"][0].update(start=0, end=10)
    assert render(orjson.dumps(short), "verbose_json")["segments"][0]["end"] == 2.5


def test_tokens_become_words() -> None:
    document = made(
        (
            " Don't stop, 3.5 “ever” – OK?",
            [" Don", "'t", " stop", ",", " 3", ".", "5", " “", "ever"],
        ),
        ("", ["”", " –", " OK", "?"]),
    )
    assert words(document) == ["Don't", "stop", "3.5", "ever", "OK"]


def test_letters_that_tokens_cut_are_whole_again() -> None:
    assert words(made((" жук ест", [" ж", "\ufffd", "\ufffdк", " ест"]))) == ["жук", "ест"]
    asian = made(("你好嗎。", ["你", "\ufffd", "\ufffd", "嗎", "。"]), language="chinese")
    assert words(asian) == ["你", "好", "嗎"]
    ending = made(("你好", ["你", "\ufffd", "\ufffd"]), language="chinese")
    assert words(ending) == ["你", "好"]


def test_silence_has_no_segments() -> None:
    document = made()
    assert render(document, "json")["text"] == ""
    assert render(document, "verbose_json", "word", "segment")["segments"] == []
    assert render(document, "srt") == ""
    assert render(document, "vtt") == "WEBVTT\n\n"


def test_a_segment_without_tokens_has_numbers_all_the_same() -> None:
    empty = orjson.loads(made(("", [])))
    empty["segments"][0]["avg_logprob"] = None
    (segment,) = render(orjson.dumps(empty), "verbose_json")["segments"]
    assert (segment["tokens"], segment["avg_logprob"]) == ([], 0.0)
    assert segment["compression_ratio"] == 0.0


@pytest.mark.parametrize("junk", [b"", b"[]", b"{}", b'{"duration":1,"language":"x"}', b"null"])
def test_what_is_no_transcript_is_told(junk: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - its message is the parser's
        Transcript(junk)
