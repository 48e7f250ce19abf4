from __future__ import annotations

import pytest

from schemas import multipart
from schemas.multipart import Part
from workers.engines.openai.refusal import Refusal
from workers.engines.whisper import request
from workers.engines.whisper.request import Ask

PATH = "/v1/audio/transcriptions"
FILE = Part("file", b"RIFF", "a.wav")


def read(*parts: Part, path: str = PATH, lenient: bool = False, vad: bool = False) -> Ask:
    return request.read(path, *multipart.encode(parts), lenient=lenient, vad=vad)


def field(name: str, value: str | bytes) -> Part:
    return Part(name, value.encode() if isinstance(value, str) else value)


def sent(ask: Ask) -> dict[str, str]:
    parts = multipart.parse(*ask.form(ask.audio))
    assert parts[-1] == Part("file", ask.audio, "audio")
    return {part.name: part.content.decode() for part in parts[:-1]}


def refused(*parts: Part, lenient: bool = False) -> Refusal:
    with pytest.raises(Refusal) as caught:
        read(*parts, lenient=lenient)
    assert caught.value.status == 400
    return caught.value


def test_the_least_request() -> None:
    ask = read(FILE, field("model", "whisper-1"))
    assert (ask.format, ask.translate, ask.words) == ("json", False, False)
    assert sent(ask) == {
        "response_format": "verbose_json",
        "no_language_probabilities": "true",
        "token_timestamps": "false",
        "language": "auto",
        "translate": "false",
        "max_len": "100000",
    }


def test_all_of_openais_fields() -> None:
    ask = read(
        field("model", "whisper-1"),
        field("language", "de"),
        field("prompt", "Guten Tag"),
        field("response_format", "verbose_json"),
        field("temperature", "0.25"),
        field("timestamp_granularities[]", "word"),
        field("timestamp_granularities[]", "segment"),
        field("stream", "false"),
        FILE,
    )
    fields = sent(ask)
    assert (ask.format, ask.words) == ("verbose_json", True)
    assert ask.granularities == {"word", "segment"}
    assert (fields["language"], fields["prompt"]) == ("de", "Guten Tag")
    assert float(fields["temperature"]) == 0.25
    assert fields["token_timestamps"] == "true"
    assert "stream" not in fields
    assert "model" not in fields


def test_of_a_long_prompt_its_end_is_sent() -> None:
    prompt = sent(read(FILE, field("prompt", "x" * 9000 + "ß" * 2000 + "end")))["prompt"]
    assert len(prompt.encode()) <= request.PROMPT_KEPT
    assert prompt == "ß" * 1022 + "end"


def test_translations_translate() -> None:
    ask = read(FILE, path="/v1/audio/translations")
    assert sent(ask)["translate"] == "true"


def test_the_engines_own_fields_pass() -> None:
    ask = read(FILE, field("max_len", "40"), field("split_on_word", "1"), field("best_of", "3"))
    fields = sent(ask)
    assert (fields["max_len"], fields["split_on_word"], fields["best_of"]) == ("40", "true", "3")
    assert fields["token_timestamps"] == "true"


OWN: list[tuple[str, str, str, str]] = [
    ("no_timestamps", "true", "no_timestamps", "true"),
    ("token_timestamps", "1", "token_timestamps", "true"),
    ("suppress_non_speech", "true", "suppress_nst", "true"),
    ("suppress_nst", "0", "suppress_nst", "false"),
    ("carry_initial_prompt", "true", "carry_initial_prompt", "true"),
    ("offset_t", "1500", "offset_t", "1500"),
    ("offset_n", "7", "offset_n", "7"),
    ("duration", "5000", "duration", "5000"),
    ("max_context", "0", "max_context", "0"),
    ("beam_size", "5", "beam_size", "5"),
    ("audio_ctx", "768", "audio_ctx", "768"),
    ("entropy_thold", "2.4", "entropy_thold", "2.400000"),
    ("logprob_thold", "-1", "logprob_thold", "-1.000000"),
    ("no_speech_thold", "0.6", "no_speech_thold", "0.600000"),
    ("word_thold", "0.01", "word_thold", "0.010000"),
    ("temperature_inc", "0.2", "temperature_inc", "0.200000"),
]


def test_each_of_the_engines_own_fields_reaches_it(subtests: pytest.Subtests) -> None:
    for name, value, own, reached in OWN:
        with subtests.test(f"{name!r:.60} {value!r:.60}"):
            assert sent(read(FILE, field(name, value)))[own] == reached


def test_probabilities_of_languages_are_wanted_where_they_are_told() -> None:
    wanted = field("no_language_probabilities", "false")
    verbose = field("response_format", "verbose_json")
    assert sent(read(FILE, wanted, verbose))["no_language_probabilities"] == "false"
    assert sent(read(FILE, wanted))["no_language_probabilities"] == "true"
    assert sent(read(FILE, verbose))["no_language_probabilities"] == "true"


@pytest.mark.parametrize("off", [("no_timestamps", "true"), ("token_timestamps", "false")])
def test_words_need_their_times(off: tuple[str, str]) -> None:
    words = field("response_format", "verbose_json"), field("timestamp_granularities[]", "word")
    assert refused(FILE, field(*off), *words).param == off[0]


@pytest.mark.parametrize("kind", ["srt", "vtt"])
def test_subtitles_need_their_times(kind: str) -> None:
    written = field("response_format", kind)
    assert refused(FILE, field("no_timestamps", "true"), written).param == "no_timestamps"
    assert read(FILE, field("token_timestamps", "false"), written).timed


def test_a_name_of_the_command_line_is_told_as_the_server_has_it() -> None:
    for name, own in (("offset_t_ms", "offset_t"), ("duration_ms", "duration")):
        assert repr(own) in refused(FILE, field(name, "5")).message


WRONG: list[tuple[str, str | bytes]] = [
    ("language", "xx"),
    ("language", "xx-US"),
    ("prompt", b"\xff"),
    ("prompt", "a\0b"),
    ("response_format", "xml"),
    ("response_format", "diarized_json"),
    ("temperature", "warm"),
    ("temperature", "nan"),
    ("temperature", "inf"),
    ("temperature", "1e999"),
    ("temperature", "2"),
    ("temperature", "-0.1"),
    ("temperature", ""),
    ("timestamp_granularities[]", "letter"),
    ("stream", "maybe"),
    ("best_of", "9"),
    ("best_of", "0"),
    ("best_of", "1.5"),
    ("beam_size", "--1"),
    ("beam_size", "-2"),
    ("max_context", "-2"),
    ("max_len", "-1"),
    ("offset_n", "-1"),
    ("no_timestamps", "x"),
    ("no_context", "2"),
    ("audio_ctx", "1501"),
    ("offset_t", "9" * 30),
    ("offset_t", "9" * 5000),
    ("split_on_word", "x"),
    ("vad", "yes"),
    ("vad_threshold", "1.1"),
    ("vad_min_speech_duration_ms", "0.5"),
    ("vad_min_silence_duration_ms", "-1"),
    ("vad_max_speech_duration_s", "inf"),
    ("vad_speech_pad_ms", "x"),
    ("vad_samples_overlap", "1000"),
]


def test_a_wrong_value_is_refused_by_name(subtests: pytest.Subtests) -> None:
    for name, value in WRONG:
        with subtests.test(f"{name!r:.60} {value!r:.60}"):
            for lenient in (False, True):
                fault = refused(FILE, field(name, value), lenient=lenient)
                assert fault.param == name
                assert fault.message.startswith(f"Invalid value for {name!r}: ")
                assert len(fault.message) < 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("include[]", "logprobs"),
        ("chunking_strategy", '{"type": "server_vad"}'),
        ("known_speaker_names[]", "agent"),
        ("diarize", "true"),
        ("debug_mode", "true"),
        ("no_context", "false"),
        ("vad", "true"),
        ("offset_t_ms", "5"),
    ],
)
def test_what_the_engine_passes_over_is_refused_by_name(name: str, value: str) -> None:
    fault = refused(FILE, field(name, value))
    assert (fault.param, fault.code) == (name, "unsupported_parameter")
    assert name not in sent(read(FILE, field(name, value), lenient=True))


def test_how_speech_is_found_goes_to_a_server_that_looks_for_it() -> None:
    """Also without `vad`, as the server may look for it by default."""
    said = {
        "vad_threshold": "0.5",
        "vad_min_speech_duration_ms": "250",
        "vad_min_silence_duration_ms": "100",
        "vad_max_speech_duration_s": "30",
        "vad_speech_pad_ms": "30",
        "vad_samples_overlap": "0.1",
    }
    assert set(said) == set(request.VAD_OPTIONS)
    parts = [field(name, value) for name, value in said.items()]
    for vad in ({}, {"vad": "false"}, {"vad": "true"}):
        found = sent(read(FILE, *parts, *(field(*each) for each in vad.items()), vad=True))
        assert {name: float(found[name]) for name in said} == {
            name: float(value) for name, value in said.items()
        }
        assert found.get("vad") == vad.get("vad")
    assert sent(read(FILE, *parts, field("vad", "false"))) == sent(read(FILE))


def test_what_nobody_is_known_to_have_is_left_out() -> None:
    for part in (field("nonsense", "1"), field("hotwords[]", "x")):
        assert sent(read(FILE, part)) == sent(read(FILE))
    assert refused(FILE, Part("more", b"RIFF", "a.wav")).param == "more"


def test_the_upload_is_needed_and_has_to_be_one() -> None:
    assert refused(field("model", "m")).param == "file"
    assert refused(Part("audio", b"RIFF", "a.wav")).param == "audio"
    assert "upload" in refused(field("file", "RIFF")).message
    assert "empty" in refused(Part("file", b"", "a.wav")).message
    assert "twice" in refused(FILE, FILE).message
    assert refused(FILE, Part("response_format", b"json", "f.txt")).param == "response_format"
    assert refused(FILE, field("language", "en"), field("language", "de")).param == "language"


def test_a_stream_carries_text() -> None:
    for value in ("true", "True", "1"):
        ask = read(FILE, field("stream", value))
        assert ask.stream
        assert "stream" not in sent(ask)
        fault = refused(FILE, field("stream", value), field("response_format", "vtt"))
        assert fault.param == "response_format"


def test_timestamps_need_the_verbose_format() -> None:
    fault = refused(FILE, field("timestamp_granularities[]", "word"))
    assert fault.param == "timestamp_granularities[]"
    assert "verbose_json" in fault.message
    ask = read(FILE, field("timestamp_granularities[]", "segment"))
    assert ask.format == "json", "segments are asked for by clients that want the text alone"


def test_what_asks_for_nothing_is_taken() -> None:
    least = sent(read(FILE))
    for name in ("vad", "diarize", "tinydiarize", "detect_language", "debug_mode"):
        assert sent(read(FILE, field(name, "false"))) == least
    for name, value in (("max_len", "0"), ("beam_size", "-1"), ("max_context", "-1")):
        assert sent(read(FILE, field(name, value))) == least
    assert sent(read(FILE, field("no_context", "true"))) == least
    assert sent(read(FILE, field("chunking_strategy", "auto"))) == least


def test_the_engines_own_way_to_translate() -> None:
    for value, path, found in (
        ("true", PATH, "true"),
        ("false", PATH, "false"),
        ("false", "/v1/audio/translations", "true"),
    ):
        assert sent(read(FILE, field("translate", value), path=path))["translate"] == found


def test_a_body_that_is_no_form_is_refused() -> None:
    with pytest.raises(Refusal, match="no boundary"):
        request.read(PATH, b"", "multipart/form-data")
