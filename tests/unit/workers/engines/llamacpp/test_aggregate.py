"""The streams in `data/` were recorded of llama.cpp b11549, each beside the document that it
answered the same request with when not asked to stream."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.api import sse
from schemas.api.base import Usage
from tests.doubles.drive import RecordingSink
from tests.doubles.llamacpp import DATA
from workers.engines.base import EngineFault
from workers.engines.llamacpp.aggregate import Aggregate, choices_per_prompt, prepare

CASES = sorted(path.stem for path in DATA.glob("*.sse") if path.with_suffix(".json").exists())
# Where the engine's own document counts choice 0 alone.
ALL_CHOICES = {
    "n2": Usage(prompt=34, completion=8, cached=0),
    "text_prompts": Usage(prompt=2 + 5, completion=4 * 3, cached=0),
}
CHUNK = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"


def recorded(case: str) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """(request, the engine's document, the engine's stream)"""
    case_ = orjson.loads((DATA / f"{case}.json").read_bytes())
    return case_["request"], case_["answer"], (DATA / f"{case}.sse").read_bytes()


def fed(stream: bytes, body: dict[str, Any] | None = None, cuts: Sequence[int] = ()) -> Aggregate:
    """With all of a stream that arrives cut at these places."""
    splitter = sse.Splitter()
    aggregate = Aggregate(RecordingSink(), choices_per_prompt(body or {}))
    aggregate.start(200, "text/event-stream")
    for start, stop in itertools.pairwise([0, *sorted(cuts), len(stream)]):
        if events := splitter.feed(stream[start:stop]):
            aggregate.data(events)
    return aggregate


def aggregated(
    stream: bytes, body: dict[str, Any] | None = None, cuts: Sequence[int] = ()
) -> dict[str, Any]:
    document = fed(stream, body, cuts).document
    assert document is not None
    return document


def timeless(document: dict[str, Any]) -> dict[str, Any]:
    """`document` without what two runs of one request never have in common."""
    out = copy.deepcopy(document)
    del out["id"], out["created"]
    out["timings"] = {k: v for k, v in out["timings"].items() if "_ms" not in k and "per_" not in k}
    for choice in out["choices"]:
        for call in choice.get("message", {}).get("tool_calls", ()):
            assert call.pop("id")
    return out


@pytest.mark.parametrize("case", CASES)
def test_equals_the_engines_document(case: str) -> None:
    body, answer, stream = recorded(case)
    expected = timeless(answer)
    if total := ALL_CHOICES.get(case):
        expected["usage"] = {
            "completion_tokens": total.completion,
            "prompt_tokens": total.prompt,
            "total_tokens": total.prompt + total.completion,
            "prompt_tokens_details": {"cached_tokens": total.cached},
        }

    assert timeless(aggregated(stream, body)) == expected


@pytest.mark.parametrize("case", CASES)
def test_reports_usage(case: str) -> None:
    body, answer, stream = recorded(case)
    told = answer["usage"]
    expected = ALL_CHOICES.get(case) or Usage(told["prompt_tokens"], told["completion_tokens"], 0)
    assert fed(stream, body).usage() == expected
    assert fed(b"", body).usage() is None


@given(case=st.sampled_from(CASES), cuts=st.lists(st.integers(0, 8000), max_size=40))
def test_bytes_may_be_cut_anywhere(case: str, cuts: list[int]) -> None:
    body, _, stream = recorded(case)
    assert aggregated(stream, body, cuts) == aggregated(stream, body)


def spoken(text: str, created: int, **fields: object) -> bytes:
    """A chunk of text as llama-server writes it."""
    choice = {"finish_reason": None, "index": 0, "delta": {"content": text}, **fields}
    chunk = {"choices": [choice], "created": created, "object": "chat.completion.chunk"}
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


@given(
    said=st.lists(st.tuples(st.text(max_size=6), st.integers(1, 2), st.booleans()), min_size=1),
    cuts=st.lists(st.integers(0, 4000), max_size=20),
)
def test_no_text_is_lost_and_none_added(said: list[tuple[str, int, bool]], cuts: list[int]) -> None:
    chunks = [
        spoken(text, created, logprobs={"content": [text]}) if odd else spoken(text, created)
        for text, created, odd in said
    ]
    (choice,) = aggregated(b"".join(chunks) + DONE, cuts=cuts)["choices"]
    assert choice["message"]["content"] == "".join(text for text, _, _ in said)
    told = choice.get("logprobs", {}).get("content", [])
    assert told == [text for text, _, odd in said if odd]


def test_prompt_progress_belongs_to_streams_alone() -> None:
    _, _, stream = recorded("emoji")

    assert b"prompt_progress" in stream
    assert "prompt_progress" not in aggregated(stream)


def test_comments_and_null_events_are_passed_over() -> None:
    stream = b": ping\n\ndata: null\n\n" + CHUNK + DONE

    assert aggregated(stream)["choices"][0]["message"]["content"] == "a"


@pytest.mark.parametrize(
    "event", [b"{", b"[1]", b'"x"', b'{"choices":[1]}', b'{"choices":[{"delta":[1]}]}', b"\xff"]
)
def test_what_is_no_chunk_is_a_fault_of_the_engine(event: bytes) -> None:
    with pytest.raises(EngineFault, match="no chunk") as caught:
        fed(b"data: " + event + b"\n\n")
    assert caught.value.away


def test_nothing_but_an_end_is_no_answer() -> None:
    assert fed(DONE).document is None


def test_prepare_asks_for_a_stream_with_usage_and_changes_nothing_else() -> None:
    body = {"messages": [{"role": "user", "content": "x"}], "n": 2, "odd": {"a": [1]}}
    before = copy.deepcopy(body)

    sent = prepare(body)

    assert sent == {**before, "stream": True, "stream_options": {"include_usage": True}}
    assert body == before


@pytest.mark.parametrize("options", [None, "x", {}, {"include_usage": False}])
def test_prepare_overrules_the_clients_stream_options(options: object) -> None:
    assert prepare({"stream_options": options})["stream_options"] == {"include_usage": True}
    assert prepare({"stream_options": {"a": 1}})["stream_options"]["a"] == 1


@pytest.mark.parametrize(
    ("messages", "echo"),
    [
        ([{"role": "user"}, {"role": "assistant"}], True),
        ([{"role": "assistant"}, {"role": "user"}], None),
        ([], None),
        ("x", None),
        (["x"], None),
    ],
)
def test_prepare_lets_the_engine_repeat_a_prefilled_message(
    messages: object, echo: bool | None
) -> None:
    assert prepare({"messages": messages}).get("echo") is echo


def test_usage_may_be_told_by_timings_alone() -> None:
    stream = (DATA / "chat_without_usage.sse").read_bytes()

    assert b'"usage"' not in stream
    assert aggregated(stream)["usage"]["total_tokens"] == 40
