from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.jobs import resume
from ingress.jobs.resume import CHAT, MESSAGES, Splice

DONE = b"data: [DONE]\n\n"
FIRST = {"id": "chatcmpl-1", "created": 1, "model": "m"}
SECOND = {"id": "gen-2", "created": 2, "model": "m"}
TEXTS = st.lists(st.text(min_size=1, max_size=5), max_size=6)


def event(found: dict[str, Any], name: str = "") -> bytes:
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: %b\n\n" % orjson.dumps(found)


def chunk(delta: dict[str, Any], of: dict[str, Any] = FIRST, **more: Any) -> bytes:
    return event({**of, "choices": [{"index": 0, "delta": delta, "finish_reason": None} | more]})


def chunks(texts: list[str], of: dict[str, Any]) -> list[bytes]:
    start = chunk({"role": "assistant", "content": ""}, of)
    return [start, *(chunk({"content": text}, of) for text in texts)]


def usage(prompt: int, completion: int) -> dict[str, int]:
    told = {"prompt_tokens": prompt, "completion_tokens": completion}
    return {**told, "total_tokens": prompt + completion}


def message(kind: str, **more: Any) -> bytes:
    return event({"type": kind, **more}, kind)


def block(kind: str, index: int = 0, **more: Any) -> bytes:
    return message("content_block_start", index=index, content_block={"type": kind, **more})


def says(text: str, index: int = 0) -> bytes:
    delta = {"type": "text_delta", "text": text}
    return message("content_block_delta", index=index, delta=delta)


START = message("message_start", message={"id": "msg_1", "content": [], "usage": {}})


def kept(endpoint: str, *pieces: bytes) -> Splice:
    made = Splice(endpoint)
    for piece in pieces:
        made.keep(piece)
    return made


def found(stream: bytes) -> list[dict[str, Any]]:
    lines = stream.split(b"\n")
    return [orjson.loads(line[6:]) for line in lines if line.startswith(b"data: {")]


@given(TEXTS, TEXTS, st.integers(1, 4))
def test_a_chat_is_one_stream_with_nothing_repeated_and_nothing_missing(
    begun: list[str], rest: list[str], at_once: int
) -> None:
    joint = kept(CHAT, *chunks(begun, FIRST))
    assert joint.close()
    assert (joint.text, joint.tokens) == ("".join(begun), len(begun))
    pieces = [*chunks(rest, SECOND), chunk({}, SECOND, finish_reason="stop"), DONE]
    sent = b"".join(
        joint.join(b"".join(pieces[at : at + at_once])) for at in range(0, len(pieces), at_once)
    )
    assert sent.endswith(DONE)
    told = found(sent)
    assert {each["id"] for each in told} == {"chatcmpl-1"}
    deltas = [each["choices"][0]["delta"] for each in told]
    assert not [delta for delta in deltas if "role" in delta]
    assert "".join(delta.get("content", "") for delta in deltas) == "".join(rest)


def test_what_was_begun_counts_as_written() -> None:
    joint = kept(CHAT, *chunks(["a", "b"], FIRST))
    assert joint.close()
    end = event({**SECOND, "choices": [], "usage": usage(12, 5)})
    [told] = found(joint.join(end))
    assert told["usage"] == usage(10, 7)


@pytest.mark.parametrize(
    "piece",
    [
        chunk({"tool_calls": [{"index": 0}]}),
        chunk({"reasoning_content": "hm"}),
        chunk({"content": "x"}, logprobs={"content": []}),
        chunk({"content": "x"}, index=1),
        chunk({}, finish_reason="stop"),
        event({"error": {"message": "x"}}),
        DONE,
        b"data: {broken\n\n",
    ],
)
def test_what_is_more_than_text_is_not_continued(piece: bytes) -> None:
    joint = kept(CHAT, chunk({"role": "assistant", "content": "a"}), piece)
    assert not joint.close()
    assert not joint.closed


def test_a_stream_is_continued_once() -> None:
    joint = kept(CHAT, chunk({"content": "a"}))
    assert joint.close()
    assert not joint.close()


def test_a_long_stream_is_not_kept() -> None:
    joint = kept(CHAT, chunk({"content": "x" * resume.LIMIT}), chunk({"content": "x"}))
    assert not joint.close()
    assert len(b"".join(joint._kept)) <= resume.LIMIT


def test_what_the_client_did_not_get_is_forgotten() -> None:
    joint = kept(CHAT, chunk({"content": "lost"}))
    joint.forget()
    joint.keep(chunk({"content": "a"}))
    assert joint.close()
    assert joint.text == "a"


def test_comments_and_errors_pass() -> None:
    joint = kept(CHAT, chunk({"content": "a"}))
    joint.close()
    fault = event({"error": {"message": "x"}})
    assert joint.join(b": x-headrace-cost 1\n\n" + fault) == b": x-headrace-cost 1\n\n" + fault


@given(TEXTS, TEXTS)
def test_messages_are_one_stream(begun: list[str], rest: list[str]) -> None:
    joint = kept(MESSAGES, START, block("text", text=""), *map(says, begun))
    assert joint.close()
    assert joint.text == "".join(begun)
    ended = message("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 5})
    second = [START, block("text", text=""), message("ping"), *map(says, rest)]
    second += [message("content_block_stop", index=0), ended, message("message_stop")]
    told = found(joint.join(b"".join(second)))
    kinds = [each["type"] for each in told]
    deltas = ["content_block_delta"] * len(rest)
    assert kinds == ["ping", *deltas, "content_block_stop", "message_delta", "message_stop"]
    assert [e["delta"]["text"] for e in told[1 : 1 + len(rest)]] == rest
    assert told[-2]["usage"] == {"output_tokens": 5 + len(begun)}


def test_a_tool_behind_the_text_is_a_block_of_its_own() -> None:
    joint = kept(MESSAGES, START, block("text", text=""), says("a"))
    assert joint.close()
    call = {"type": "input_json_delta", "partial_json": "{}"}
    second = START + block("tool_use", name="t")
    second += message("content_block_delta", index=0, delta=call)
    second += message("content_block_stop", index=0)
    told = [(e["type"], e["index"]) for e in found(joint.join(second))]
    assert told == [
        ("content_block_stop", 0),
        ("content_block_start", 1),
        ("content_block_delta", 1),
        ("content_block_stop", 1),
    ]


def test_messages_of_which_nothing_was_said_begin_their_block() -> None:
    joint = kept(MESSAGES, START)
    assert joint.close()
    told = found(joint.join(START + block("text", text="") + says("a")))
    assert [each["type"] for each in told] == ["content_block_start", "content_block_delta"]


@pytest.mark.parametrize(
    "piece",
    [
        block("tool_use", 1, name="t"),
        block("thinking"),
        message("content_block_stop", index=0),
        message("message_stop"),
        message("error", error={}),
    ],
)
def test_messages_of_more_than_text_are_not_continued(piece: bytes) -> None:
    assert not kept(MESSAGES, START, block("text", text=""), says("a"), piece).close()


USER = [{"role": "user", "content": "x"}]


@pytest.mark.parametrize(
    ("endpoint", "asked", "fits"),
    [
        (CHAT, {}, True),
        (CHAT, {"n": 1, "response_format": {"type": "text"}, "tools": [{}]}, True),
        (CHAT, {"n": 2}, False),
        (CHAT, {"logprobs": True}, False),
        (CHAT, {"response_format": {"type": "json_object"}}, False),
        (CHAT, {"messages": [*USER, {"role": "assistant", "content": "a"}]}, False),
        (MESSAGES, {}, True),
        (MESSAGES, {"thinking": {"type": "disabled"}}, True),
        (MESSAGES, {"thinking": {"type": "enabled", "budget_tokens": 1024}}, False),
        ("/v1/completions", {"prompt": "x"}, False),
        ("/v1/responses", {"input": "x"}, False),
    ],
)
def test_what_may_be_continued(endpoint: str, asked: dict[str, Any], fits: bool) -> None:
    assert resume.fits(endpoint, {"messages": USER, **asked}) is fits
