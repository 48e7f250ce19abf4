"""What the playground asks."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.console.pages import asked
from deploy.console.pages.asked import File, Turn, Wrong

CAT = File("cat.png", "image/png", b"a cat")
WORDS = File("words.mp3", "audio/mpeg", b"some words")


def test_files_of_a_chat_are_parts_of_its_message() -> None:
    said = asked.chat("m", " ", [Turn("user", "What?", (CAT, WORDS))], {"seed": 1}).document()
    cat, words = (base64.b64encode(file.content).decode() for file in (CAT, WORDS))
    assert said == {
        "model": "m",
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What?"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{cat}"}},
                    {"type": "input_audio", "input_audio": {"data": words, "format": "mp3"}},
                ],
            }
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "seed": 1,
    }


def test_a_translation_names_no_language() -> None:
    said = asked.transcription("w", WORDS, language="de", translated=True)
    assert (said.path, said.body) == ("/v1/audio/translations", {"model": "w"})
    said = asked.transcription("w", WORDS, language="de")
    assert said.body == {"model": "w", "language": "de"}


def test_a_picture_needs_words() -> None:
    with pytest.raises(Wrong):
        asked.picture("sd", " ")


@pytest.mark.parametrize(
    ("name", "content"), [("a.exe", b"x"), ("a", b"x"), ("a.png", b""), ("a.png", bytes(2**24))]
)
def test_a_file_that_cannot_be_sent_is_refused(name: str, content: bytes) -> None:
    with pytest.raises(Wrong):
        asked.taken(name, content, asked.PICTURES)


@given(st.text())
def test_a_name_is_plain(name: str) -> None:
    plain = asked.named(name)
    assert plain
    assert not plain.startswith(("-", "."))
    assert not set(plain) & set("/\\ '\"$`;&|<>*?!\n\0")
