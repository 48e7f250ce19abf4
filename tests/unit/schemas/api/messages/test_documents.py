"""Documents and search results become texts that say what they are."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.api.messages import documents

TEXT = {"type": "text", "text": "When was it built?"}
PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA"}}


def document(source: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "document", "source": source, **more}


def plain(text: str = "It was built in 1850.", **more: Any) -> dict[str, Any]:
    return document({"type": "text", "media_type": "text/plain", "data": text}, **more)


def result(**more: Any) -> dict[str, Any]:
    texts = [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]
    about = {"source": "https://mill.test/", "title": "The mill"}
    return {"type": "search_result", **about, "content": texts, **more}


def said(*blocks: dict[str, Any]) -> list[dict[str, Any]]:
    asked = {"model": "m", "messages": [{"role": "user", "content": list(blocks)}]}
    found = documents.as_texts(asked)
    assert found["model"] == "m"
    content: list[dict[str, Any]] = found["messages"][0]["content"]
    return content


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (plain(), "<document>\nIt was built in 1850.\n</document>"),
        (
            plain("It is old.\n", title="The mill", context="By a miller."),
            "<document>\n<title>The mill</title>\n<context>By a miller.</context>\n"
            "It is old.\n</document>",
        ),
        (plain(title=""), "<document>\nIt was built in 1850.\n</document>"),
        (document({"type": "content", "content": "Old."}), "<document>\nOld.\n</document>"),
        (
            result(),
            "<search_result>\n<source>https://mill.test/</source>\n<title>The mill</title>\n"
            "One.\nTwo.\n</search_result>",
        ),
    ],
)
def test_it_is_one_text(block: dict[str, Any], words: str) -> None:
    assert said(block, TEXT) == [text(words), TEXT]


def test_pictures_stay_between_the_texts() -> None:
    inside = {"type": "content", "content": [text("Before."), PICTURE, text("After.")]}
    found = said(document(inside))
    assert found == [text("<document>\nBefore."), PICTURE, text("After.\n</document>")]


def test_in_the_result_of_a_tool() -> None:
    tool = {"type": "tool_result", "tool_use_id": "t", "content": [result(), plain()]}
    content = said(tool)[0]["content"]
    assert [each["type"] for each in content] == ["text", "text"]
    assert said({"type": "tool_result", "content": "5"}) == [
        {"type": "tool_result", "content": "5"}
    ]


def test_where_they_are_and_which_are_to_be_cited() -> None:
    cited = plain(citations={"enabled": True})
    tool = {"type": "tool_result", "content": [TEXT, result(citations={"enabled": False})]}
    asked = {"messages": [{"role": "user", "content": "?"}, {"content": [cited, tool]}]}
    found = [(path, documents.cites(block)) for path, block in documents.found(asked)]
    assert found == [
        ("messages[1].content[0]", True),
        ("messages[1].content[1].content[1]", False),
    ]


def test_what_is_to_be_cached_stays_so() -> None:
    mark: dict[str, Any] = {"cache_control": {"type": "ephemeral"}}
    told = "<document>\nIt was built in 1850.\n</document>"
    assert said(plain(**mark)) == [{**text(told), **mark}]
    inner = [{**text("Old."), **mark}, PICTURE]
    assert said(document({"type": "content", "content": inner})) == [
        {**text("<document>\nOld."), **mark},
        PICTURE,
        text("</document>"),
    ]
