from __future__ import annotations

import pytest

from workers.engines.whisper import languages


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("de", "de"),
        ("DE", "de"),
        ("german", "de"),
        ("English", "en"),
        ("haitian creole", "ht"),
        ("cantonese", "yue"),
        ("en-US", "en"),
        ("pt_BR", "pt"),
        ("zh-Hant-TW", "zh"),
        ("auto", "auto"),
        ("", "auto"),
    ],
)
def test_codes_and_names_as_answers_have_them(text: str, code: str) -> None:
    assert languages.code(text) == code


@pytest.mark.parametrize(
    "text", ["xx", "xx-US", "klingon", "e", "de ", "en-", "-US", "english-US", "en-US-a-b"]
)
def test_what_whisper_does_not_know(text: str) -> None:
    with pytest.raises(ValueError, match="ISO-639-1"):
        languages.code(text)
