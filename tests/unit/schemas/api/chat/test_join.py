from __future__ import annotations

from typing import Any

from schemas.api.chat.join import Join


def document(*texts: str, prompt: int = 3) -> dict[str, Any]:
    choices = [{"index": i, "message": {"content": text}} for i, text in enumerate(texts)]
    used = len(" ".join(texts).split())
    usage = {"prompt_tokens": prompt, "completion_tokens": used, "total_tokens": prompt + used}
    return {"id": f"id-{texts[0]}", "model": "m", "choices": choices, "usage": usage, "odd": 1}


def test_documents_of_one_choice_each() -> None:
    joined = Join(3).document([document("a"), document("b b"), document("c")])
    assert [(c["index"], c["message"]["content"]) for c in joined["choices"]] == [
        (0, "a"),
        (1, "b b"),
        (2, "c"),
    ]
    assert joined["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert (joined["id"], joined["odd"]) == ("id-a", 1)


def test_choices_of_one_prompt_stay_together() -> None:
    joined = Join(2).document([document("p0a", "p1a"), document("p0b", "p1b")])
    texts = [choice["message"]["content"] for choice in joined["choices"]]
    assert texts == ["p0a", "p0b", "p1a", "p1b"]
    assert [choice["index"] for choice in joined["choices"]] == [0, 1, 2, 3]


def test_a_document_without_usage_gets_none() -> None:
    assert "usage" not in Join(1).document([{"choices": []}])


def test_chunks_get_one_id_and_their_own_index() -> None:
    join = Join(2)
    first = {"id": "x", "created": 1, "model": "m", "choices": [{"index": 0, "delta": {"a": 1}}]}
    second = {"id": "y", "created": 2, "model": "m", "choices": [{"index": 0, "delta": {"b": 2}}]}
    told = [event for event in (join.event(0, first), join.event(1, second)) if event]
    assert [(e["id"], e["created"], e["choices"][0]["index"]) for e in told] == [
        ("x", 1, 0),
        ("x", 1, 1),
    ]


def test_usage_comes_once_at_the_end_and_only_if_it_came() -> None:
    join = Join(2)
    closing = {"id": "x", "choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 3}}
    assert [join.event(job, closing) for job in (0, 1)] == [None, None]
    counted = {"prompt_tokens": 2, "completion_tokens": 6, "total_tokens": 8}
    assert join.last() == {"choices": [], "id": "x", "usage": counted}
    assert Join(2).last() is None


def test_azures_first_chunk_names_no_answer() -> None:
    join = Join(2)
    prompt = {"id": "", "created": 0, "model": "", "choices": [], "prompt_filter_results": []}
    said = {"created": 1, "model": "m", "choices": [{"index": 0, "delta": {}}]}
    told = [
        join.event(job, event)
        for job, event in ((0, prompt), (1, prompt), (1, {"id": "y", **said}), (0, said))
    ]
    assert told[:2] == [None, None]
    assert [event and event["id"] for event in told[2:]] == ["y", "y"]
    assert [event and event["model"] for event in told[2:]] == ["m", "m"]


def test_usage_beside_a_choice_is_counted_and_comes_once() -> None:
    join = Join(2)
    for job in (0, 1):
        for count in (1, 2):
            usage = {"prompt_tokens": 2, "completion_tokens": count}
            event = {"id": "x", "choices": [{"index": 0, "delta": {}}], "usage": usage}
            told = join.event(job, event)
            assert told is not None
            assert "usage" not in told
    last = join.last()
    assert last is not None
    assert last["usage"] == {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}
