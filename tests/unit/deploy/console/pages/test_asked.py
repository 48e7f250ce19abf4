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


def _file(mib: int) -> File:
    return File("a.png", "image/png", bytes(mib * 2**20))


def test_files_of_a_message_are_bounded_in_number_and_in_all() -> None:
    two = asked.added([_file(8)], _file(8), 2)
    assert len(two) == 2
    with pytest.raises(Wrong, match="at most 2 files"):
        asked.added(two, CAT, 2)
    with pytest.raises(Wrong, match="16 MiB"):
        asked.added(two, CAT, 8)


@pytest.mark.parametrize(
    ("before", "turn"),
    [
        ([Turn("user", "a")] * asked.MOST_TURNS, Turn("user", "b")),
        ([Turn("assistant", "a" * asked.MOST_TEXT)], Turn("user", "b")),
        ([Turn("user", "", (_file(8), _file(8)))], Turn("user", "", (CAT,))),
    ],
    ids=["messages", "text", "files"],
)
def test_a_conversation_is_bounded(before: list[Turn], turn: Turn) -> None:
    asked.check_room([], before[0])
    asked.check_room(before[:-1], before[-1])
    with pytest.raises(Wrong, match="begin a new one"):
        asked.check_room(before, turn)


@given(st.text())
def test_a_name_is_plain(name: str) -> None:
    plain = asked.named(name)
    assert plain
    assert not plain.startswith(("-", "."))
    assert not set(plain) & set("/\\ '\"$`;&|<>*?!\n\0")
