from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.jobs import resume, state
from ingress.jobs.resume import ResumableStream
from ingress.jobs.state import Received
from schemas.api import endpoints, sse
from schemas.api.base import Outline

CHAT, MESSAGES = endpoints.CHAT.path, endpoints.MESSAGES.path
BODY = b'{"messages":[{"role":"user","content":"hi"}]}'
ASKED = orjson.loads(BODY)
FIRST = {"id": "chatcmpl-1", "created": 1, "model": "m"}
SECOND = {"id": "gen-2", "created": 2, "model": "m"}
TEXTS = st.lists(st.text(min_size=1, max_size=5), max_size=6)


def chunk(delta: dict[str, Any], of: dict[str, Any] = FIRST, finish: str | None = None) -> bytes:
    return sse.dump({**of, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})


def chunks(texts: list[str], of: dict[str, Any]) -> list[bytes]:
    start = chunk({"role": "assistant", "content": ""}, of)
    return [start, *(chunk({"content": text}, of) for text in texts)]


def outline(asked: dict[str, Any] | bytes, path: str = CHAT) -> Outline:
    return endpoints.APIS[path].outline(orjson.loads(asked) if isinstance(asked, bytes) else asked)


def heard(endpoint: str, *pieces: bytes, thoughts: bool = False) -> ResumableStream:
    made = ResumableStream(endpoints.APIS[endpoint], thoughts)
    made.hear(pieces)
    return made


@given(st.lists(TEXTS, min_size=1, max_size=4), TEXTS, st.integers(1, 4))
def test_a_chat_in_parts_is_one_stream_with_nothing_repeated_and_nothing_missing(
    parts: list[list[str]], rest: list[str], at_once: int
) -> None:
    received = Received(CHAT, resumes=True)
    said: list[str] = []
    got = b""
    for number, texts in enumerate(parts):
        for piece in chunks(texts, {**FIRST, "id": f"chatcmpl-{number}"}):
            received.add(piece)
        got += received.take()
        said += texts
        assert received.break_off(outline(BODY))
        assert received.begun == (len(said), "".join(said), "")
    pieces = [*chunks(rest, SECOND), chunk({}, SECOND, "stop"), sse.DONE]
    for at in range(0, len(pieces), at_once):
        received.add(b"".join(pieces[at : at + at_once]))
    got += received.take()
    assert got.endswith(sse.DONE)
    told = list(sse.objects(got))
    assert {each["id"] for each in told} == {"chatcmpl-0"}
    deltas = [each["choices"][0]["delta"] for each in told]
    assert len([delta for delta in deltas if "role" in delta]) == 1
    assert "".join(delta.get("content", "") for delta in deltas) == "".join(said + rest)


def test_messages_are_continued_with_their_names() -> None:
    start = sse.dump({"type": "message_start", "message": {}}, named=True)
    kind = {"type": "content_block_start", "index": 0, "content_block": {"type": "text"}}
    stream = heard(MESSAGES, start, sse.dump(kind, named=True))
    assert stream.break_off(outline(ASKED))
    last = sse.dump({"type": "message_stop"}, named=True)
    assert stream.follow(start + sse.dump(kind, named=True) + last, paid=False) == last


@pytest.mark.parametrize(
    "piece",
    [
        chunk({"tool_calls": [{"index": 0}]}),
        sse.DONE,
        b"data: {broken\n\n",
        chunk({"content": "cut"})[:-9],
        b"data: [1]\n\n",
    ],
)
def test_what_is_more_than_text_is_not_continued(piece: bytes) -> None:
    stream = heard(CHAT, chunk({"role": "assistant", "content": "a"}), piece)
    assert not stream.break_off(outline(ASKED))
    assert stream.begun is None


def test_comments_are_no_text() -> None:
    stream = heard(CHAT, b": keep-alive\n\n", chunk({"content": "a"}))
    assert stream.break_off(outline(ASKED))
    assert stream.begun == (1, "a", "")


@pytest.mark.parametrize(("paid", "expected"), [(True, (10, 7)), (False, (12, 5))])
def test_only_a_provider_counts_the_beginning_as_prompt(
    paid: bool, expected: tuple[int, int]
) -> None:
    stream = heard(CHAT, *chunks(["a", "b"], FIRST))
    assert stream.break_off(outline(ASKED))
    usage = {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}
    [told] = sse.objects(stream.follow(sse.dump({"choices": [], "usage": usage}), paid))
    assert told["usage"] == dict(zip(usage, (*expected, 17), strict=True))


def test_of_a_long_stream_only_the_text_is_kept() -> None:
    received = Received(CHAT, resumes=True)
    for _ in range(9):
        received.add(chunk({"content": "x" * (state.UNHEARD // 8)}))
    assert received._size <= state.UNHEARD // 4
    received.take()
    assert received.break_off(outline(BODY))
    assert received.begun is not None
    assert len(received.begun.text) == 9 * (state.UNHEARD // 8)


def test_a_text_that_is_too_long_for_a_job_is_not_continued() -> None:
    stream = heard(CHAT, chunk({"content": "x" * resume.LIMIT}), chunk({"content": "x"}))
    assert not stream.break_off(outline(ASKED))


def test_what_the_client_did_not_get_is_forgotten() -> None:
    received = Received(CHAT, resumes=True)
    received.add(chunk({"content": "lost"}))
    received.forget()
    received.add(chunk({"content": "a"}))
    received.take()
    assert received.break_off(outline(BODY))
    assert received.begun == (1, "a", "")


def test_a_request_that_is_more_than_text_is_not_continued() -> None:
    received = Received(CHAT, resumes=True)
    received.add(chunk({"content": "a"}))
    assert not received.break_off(outline(BODY[:-1] + b',"logprobs":true}'))


@pytest.mark.parametrize("more", [b',"logprobs":true}', b',"tools":[{}]}', b',"think":true}'])
def test_a_stream_without_a_word_begins_anew_whatever_was_asked_for(more: bytes) -> None:
    received = Received(CHAT, resumes=True)
    received.add(chunk({"role": "assistant", "content": ""}))
    got = received.take()
    assert received.break_off(outline(BODY[:-1] + more))
    assert received.begun == (0, "", "")
    call = {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f"}}]}
    received.add(chunk({"role": "assistant", "content": None}, SECOND) + chunk(call, SECOND))
    assert got + received.take() == chunk({"role": "assistant", "content": ""}) + chunk(call)


def test_thoughts_begin_anew_and_are_not_shown_twice() -> None:
    stream = heard(CHAT, *chunks([], FIRST), chunk({"reasoning_content": "hm"}))
    assert not stream.break_off(outline({**ASKED, "include_reasoning": True}))
    assert stream.break_off(outline(ASKED))
    assert stream.begun == (0, "", "")
    again = chunk({"role": "assistant", "reasoning_content": "so"}, SECOND)
    text = chunk({"content": "a"}, SECOND)
    assert stream.follow(again + text, paid=False) == chunk({"content": "a"})


def test_a_text_behind_thoughts_is_not_continued() -> None:
    stream = heard(CHAT, chunk({"reasoning_content": "hm"}), chunk({"content": "a"}))
    assert not stream.break_off(outline(ASKED))


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
@given(thoughts=TEXTS, texts=TEXTS, more=TEXTS, rest=TEXTS)
def test_thoughts_are_continued_where_they_are_taken(
    name: str, thoughts: list[str], texts: list[str], more: list[str], rest: list[str]
) -> None:
    """The first part may end within the thought, or behind it within the text."""
    received = Received(CHAT, resumes=True, thoughts=True)
    shown = BODY[:-1] + b',"think":true}'
    received.add(chunk({"role": "assistant", "content": None}))
    for piece in [chunk({name: each}) for each in thoughts] + chunks(texts, FIRST)[1:]:
        received.add(piece)
    got = received.take()
    assert received.break_off(outline(shown))
    size = len(thoughts) + len(texts)
    assert received.begun == (size, "".join(texts), "".join(thoughts))
    more = [] if texts else more
    later = [chunk({"role": "assistant", "content": None}, SECOND)]
    later += [chunk({name: each}, SECOND) for each in more] + chunks(rest, SECOND)[1:]
    for piece in [*later, chunk({}, SECOND, "stop"), sse.DONE]:
        received.add(piece)
    got += received.take()
    deltas = [each["choices"][0]["delta"] for each in sse.objects(got)]
    assert "".join(each.get(name, "") for each in deltas) == "".join(thoughts + more)
    assert "".join(each.get("content") or "" for each in deltas) == "".join(texts + rest)
    assert len([delta for delta in deltas if "role" in delta]) == 1


def test_thoughts_behind_a_text_are_not_continued() -> None:
    pieces = chunk({"content": "a"}), chunk({"reasoning_content": "hm"})
    assert not heard(CHAT, *pieces, thoughts=True).break_off(outline(ASKED))


def test_thoughts_and_text_have_the_limit_together() -> None:
    pieces = chunk({"reasoning_content": "x" * resume.LIMIT}), chunk({"content": "x"})
    assert heard(CHAT, pieces[0], thoughts=True).break_off(outline(ASKED))
    assert not heard(CHAT, *pieces, thoughts=True).break_off(outline(ASKED))


def test_thoughts_of_a_request_that_is_more_than_text_begin_anew() -> None:
    stream = heard(CHAT, chunk({"reasoning_content": "hm"}), thoughts=True)
    assert stream.break_off(outline({**ASKED, "logprobs": True}))
    assert stream.begun == (0, "", "")


def test_a_provider_begins_anew_behind_hidden_thoughts_alone() -> None:
    hidden = heard(CHAT, chunk({"reasoning_content": "hm"}), thoughts=True)
    assert hidden.break_off(outline(ASKED))
    assert hidden.providable
    assert hidden.begun == (1, "", "hm")
    assert hidden.for_provider() == (0, "", "")
    again = chunk({"reasoning_content": "so"}, SECOND) + chunk({"content": "a"}, SECOND)
    assert hidden.follow(again, paid=True) == chunk({"content": "a"})
    shown = heard(CHAT, chunk({"reasoning_content": "hm"}), thoughts=True)
    assert shown.break_off(outline({**ASKED, "think": True}))
    assert not shown.providable
    behind = chunk({"reasoning_content": "hm"}), chunk({"content": "a"})
    said = heard(CHAT, *behind, thoughts=True)
    assert said.break_off(outline(ASKED))
    assert not said.providable
    text = heard(CHAT, chunk({"content": "a"}), thoughts=True)
    assert text.break_off(outline(ASKED))
    assert text.providable
    assert text.for_provider() == (1, "a", "")


USED = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
STOPPED = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}


@pytest.mark.parametrize("resumes", [True, False])
@pytest.mark.parametrize(
    ("path", "events", "end"),
    [
        (CHAT, [chunk({"content": "a"}), chunk({}, finish="stop")], sse.DONE),
        (CHAT, [chunk({"tool_calls": [{}]}), chunk({}, finish="tool_calls")], sse.DONE),
        (CHAT, [chunk({}, finish="stop") + sse.dump({"choices": [], "usage": USED})], sse.DONE),
        (CHAT, [chunk({}, finish="stop"), sse.DONE], b""),
        (
            MESSAGES,
            [sse.dump({**STOPPED, "usage": {"output_tokens": 2}}, named=True)],
            sse.dump({"type": "message_stop"}, named=True),
        ),
    ],
)
def test_a_stream_that_only_lacks_its_end_is_whole(
    path: str, events: list[bytes], end: bytes, resumes: bool
) -> None:
    received = Received(path, resumes)
    for event in events:
        received.add(event)
        received.take()
    assert received.complete(outline(BODY))
    assert received.take() == end
    assert received.ended is not None
    said = b"".join(events)
    assert received.ended.completion_tokens == (2 if b"usage" in said else -1)


def test_one_whose_end_the_client_did_not_get_yet_is_whole_too() -> None:
    received = Received(CHAT)
    received.add(chunk({"content": "a"}))
    received.take()
    received.add(chunk({}, finish="stop"))
    assert received.complete(outline(BODY))
    assert received.take() == chunk({}, finish="stop") + sse.DONE


def test_one_that_is_not_at_its_end_is_not_whole() -> None:
    received = Received(CHAT)
    received.add(chunk({"content": "a"}))
    received.take()
    assert not received.complete(outline(BODY))
    assert received.ended is None


RECORDED = Path(__file__).parents[3] / "doubles/llamacpp/data"
PATHS = {word: endpoints.BY_WORD[word].path for word in ("messages", "responses")}


def recorded(word: str) -> list[bytes]:
    """The events of a real llama-server, each whole."""
    text = (RECORDED / f"{word}.sse").read_bytes()
    return [event + sse.BREAK for event in text.split(sse.BREAK) if event.strip()]


def cut_in(word: str, back: int, **asked: Any) -> tuple[Received, list[bytes]]:
    """A stream of which the last events are missing, so many, and those."""
    events = recorded(word)
    received = Received(PATHS[word], resumes=True)
    for event in events[:-back]:
        received.add(event)
        received.take()
    return received, events[-back:]


@pytest.mark.parametrize(
    ("word", "back"), [("messages", 2), *[("responses", n) for n in (1, 2, 3)]]
)
def test_a_stream_whose_text_is_said_to_be_whole_ends_whole(word: str, back: int) -> None:
    """As the engine would have ended it, but for what only the engine knows."""
    received, missing = cut_in(word, back)
    asked = {"messages": [{"role": "user"}], "input": "hi", "max_tokens": 12}
    assert received.complete(outline(asked, PATHS[word]))
    told, wanted = list(sse.objects(received.take())), list(sse.objects(b"".join(missing)))
    assert [event["type"] for event in told] == [event["type"] for event in wanted]
    if word == "messages":
        assert told == wanted
        return
    assert told[:-1] == wanted[:-1]
    last, real = told[-1]["response"], wanted[-1]["response"]
    assert (last["output"], last["status"]) == (real["output"], "completed")
    assert last["id"] == next(sse.objects(recorded(word)[0]))["response"]["id"]
    assert received.ended is not None


def test_a_text_at_its_limit_is_said_to_be_incomplete() -> None:
    received, _ = cut_in("responses", 3)
    asked = {"input": "hi", "max_output_tokens": 5}
    assert received.complete(outline(asked, PATHS["responses"]))
    *_, last = sse.objects(received.take())
    assert (last["type"], last["response"]["status"]) == ("response.incomplete", "incomplete")
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}


@pytest.mark.parametrize(
    ("word", "back", "more"),
    [
        ("messages", 2, {"tools": [{}]}),
        ("messages", 2, {"stop_sequences": ["x"]}),
        ("messages", 3, {}),
        ("responses", 3, {"tools": [{}]}),
        ("responses", 4, {}),
    ],
)
def test_a_text_of_which_only_the_engine_knows_whether_more_follows_is_not_whole(
    word: str, back: int, more: dict[str, Any]
) -> None:
    received, _ = cut_in(word, back)
    body = {"messages": [{"role": "user"}], "input": "hi", "max_tokens": 99, **more}
    made = outline(body, PATHS[word])
    assert not received.complete(made)
    if more:
        assert not received.break_off(made), "nobody writes behind such a text"


def test_comments_and_errors_pass() -> None:
    stream = heard(CHAT, chunk({"content": "a"}))
    stream.break_off(outline(ASKED))
    rest = b": x-headrace-cost 1\n\n" + sse.dump({"error": {"message": "x"}})
    assert stream.follow(rest, paid=True) == rest


def test_an_event_of_the_second_part_may_come_in_pieces() -> None:
    """A fallback cuts what is longer than a frame: half an event was passed on as one."""
    stream = heard(CHAT, chunk({"content": "a"}))
    assert stream.break_off(outline(ASKED))
    told = chunk({"content": "b" * 99}, SECOND)
    assert stream.follow(told[:50], paid=True) == b""
    assert stream.follow(told[50:], paid=True) == chunk({"content": "b" * 99})


def test_the_end_of_a_document_that_was_taken_is_known() -> None:
    received = Received(CHAT, resumes=False)
    for piece in (b"a" * 5000, b"b" * 5000, b"c"):
        received.add(piece)
    assert b"".join(received.take_parts()).endswith(b"bc")
    assert received.tail == b"b" * state.TAIL + b"c"
