from __future__ import annotations

from typing import Any

import orjson
import pytest

from ingress.answer.fanout import bodies
from ingress.answer.merge import DONE, Merge
from schemas.errors import BodyTooLarge


def document(*texts: str, prompt: int = 3) -> dict[str, Any]:
    choices = [{"index": i, "message": {"content": text}} for i, text in enumerate(texts)]
    used = len(" ".join(texts).split())
    usage = {"prompt_tokens": prompt, "completion_tokens": used, "total_tokens": prompt + used}
    return {"id": f"id-{texts[0]}", "model": "m", "choices": choices, "usage": usage, "odd": 1}


def sse(*chunks: Any) -> bytes:
    return b"".join(b"data: %b\n\n" % orjson.dumps(chunk) for chunk in chunks)


def events(raw: bytes) -> list[Any]:
    return [orjson.loads(event[6:]) for event in raw.split(b"\n\n") if event.startswith(b"data: {")]


def test_documents_of_one_choice_each() -> None:
    merged = orjson.loads(Merge(3).document([document("a"), document("b b"), document("c")]))
    assert [(c["index"], c["message"]["content"]) for c in merged["choices"]] == [
        (0, "a"),
        (1, "b b"),
        (2, "c"),
    ]
    assert merged["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert (merged["id"], merged["odd"]) == ("id-a", 1)


def test_choices_of_one_prompt_stay_together() -> None:
    merged = orjson.loads(Merge(2).document([document("p0a", "p1a"), document("p0b", "p1b")]))
    texts = [choice["message"]["content"] for choice in merged["choices"]]
    assert texts == ["p0a", "p0b", "p1a", "p1b"]
    assert [choice["index"] for choice in merged["choices"]] == [0, 1, 2, 3]


def test_a_document_without_usage_gets_none() -> None:
    assert "usage" not in orjson.loads(Merge(1).document([{"choices": []}]))


def test_chunks_get_one_id_and_their_own_index() -> None:
    merge = Merge(2)
    first = {"id": "x", "created": 1, "model": "m", "choices": [{"index": 0, "delta": {"a": 1}}]}
    second = {"id": "y", "created": 2, "model": "m", "choices": [{"index": 0, "delta": {"b": 2}}]}
    out = events(merge.chunks(0, sse(first)) + merge.chunks(1, sse(second)))
    assert [(e["id"], e["created"], e["choices"][0]["index"]) for e in out] == [
        ("x", 1, 0),
        ("x", 1, 1),
    ]


def test_usage_comes_once_at_the_end_and_only_if_it_came() -> None:
    merge = Merge(2)
    closing = {"id": "x", "choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 3}}
    for job in (0, 1):
        assert merge.chunks(job, sse(closing) + DONE) == b""
    end = merge.end()
    assert end.endswith(DONE)
    assert events(end)[0]["usage"] == {
        "prompt_tokens": 2,
        "completion_tokens": 6,
        "total_tokens": 8,
    }
    assert Merge(2).end() == DONE


def test_comments_and_what_is_no_chunk_are_left_out() -> None:
    assert Merge(2).chunks(0, b": keep-alive\n\ndata: null\n\n" + DONE) == b""


def test_bodies_differ_by_their_seed() -> None:
    found = [orjson.loads(body) for body in bodies({"n": 3, "seed": 5, "x": [1]}, 3, 100)]
    assert found == [{"n": 1, "seed": 5 + i, "x": [1]} for i in range(3)]
    one, other = bodies({"n": 2}, 2, 0)
    assert orjson.loads(one) == {"n": 1}
    assert one is other, "a large request is not kept several times"
    with pytest.raises(BodyTooLarge):
        bodies({"n": 2, "seed": 1, "x": "x" * 40}, 2, 100)


def test_a_chunk_may_come_in_pieces() -> None:
    """A worker cuts what is longer than a frame, such as the whole arguments of a call."""
    merge = Merge(2)
    told = sse({"id": "x", "choices": [{"index": 0, "delta": {"content": "a" * 99}}]})
    assert merge.chunks(0, told[:50]) == b""
    other = events(merge.chunks(1, told))
    whole = events(merge.chunks(0, told[50:]))
    assert [e["choices"][0]["index"] for e in (*other, *whole)] == [1, 0]
