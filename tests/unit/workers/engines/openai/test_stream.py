"""Streams of events on their way, in the words of several servers."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.api import media, sse
from schemas.api.base import Api, Usage
from schemas.api.chat.answer import API as CHAT
from schemas.api.completions import API as COMPLETIONS
from schemas.api.messages.answer import API as MESSAGES
from schemas.api.responses.answer import API as RESPONSES
from tests.doubles.base import DONE
from tests.doubles.drive import RecordingSink
from workers.engines.base import EngineFault
from workers.engines.http.connection import ConnectionBroken, Response
from workers.engines.openai.stream import Relay


class Pieces(Response):
    """An answer that is read in these pieces, and perhaps cut behind them."""

    def __init__(self, *pieces: bytes, cut: bool = False) -> None:
        super().__init__()
        self.headers["content-type"] = "text/event-stream; charset=utf-8"
        self._left = [*pieces]
        self._cut = cut

    async def readany(self) -> bytes:
        if not self._left and self._cut:
            raise ConnectionBroken("cut")
        return self._left.pop(0) if self._left else b""


def named(kind: str, **fields: Any) -> bytes:
    return sse.dump({"type": kind, **fields}, named=True)


def chunk(delta: dict[str, Any], reason: str | None = None, index: int = 0) -> bytes:
    return sse.dump({"choices": [{"index": index, "delta": delta, "finish_reason": reason}]})


async def relayed(
    api: Api, *pieces: bytes, sink: RecordingSink | None = None, cut: bool = False
) -> Relay:
    relay = Relay("e", api, sink or RecordingSink())
    await relay.run(Pieces(*pieces, cut=cut))
    return relay


ROLE, WORD = chunk({"role": "assistant", "content": ""}), chunk({"content": "Hi"})
FINISH = chunk({}, "stop")
USAGE = sse.dump({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}})
AZURE = sse.dump({"choices": [], "id": "", "prompt_filter_results": []})
START = named(
    "message_start", message={"usage": {"cache_read_input_tokens": 31, "input_tokens": 1}}
)
SAID = named("content_block_delta", delta={"type": "text_delta", "text": "Hi"})
DELTA = named("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 12})
STOP = named("message_stop")


async def test_it_passes_event_by_event() -> None:
    sink = RecordingSink()
    await relayed(CHAT, WORD, b"da", b"ta:", b" 2\n\n", DONE, sink=sink)
    assert sink.chunks == [WORD, b"data: 2\n\n", DONE]
    assert sink.content_type == "text/event-stream; charset=utf-8"


@pytest.mark.parametrize(
    ("api", "first", "word"),
    [
        (CHAT, [AZURE, ROLE], WORD),
        (CHAT, [b": ping\n\n", b"data:\n\n", ROLE], chunk({"reasoning": "Hm"})),
        (CHAT, [ROLE], chunk({"tool_calls": [{"function": {"name": "f", "arguments": ""}}]})),
        (
            COMPLETIONS,
            [sse.dump({"choices": [{"text": ""}]})],
            sse.dump({"choices": [{"text": "a"}]}),
        ),
        (MESSAGES, [START], SAID),
        (RESPONSES, [named("response.created", response={})], named("x.delta", delta="a")),
        (CHAT, [ROLE], sse.dump({"choices": [], "prompt_progress": {"processed": 1}})),
        (CHAT, [ROLE], chunk({"audio": {"data": "A" * 4096}})),
    ],
)
async def test_head_and_announcements_wait_for_the_first_word(
    api: Api, first: list[bytes], word: bytes
) -> None:
    """So an engine that fails before it has given nothing, and another one may still answer."""
    sink, relay = RecordingSink(), None
    relay = Relay("e", api, sink)
    for events in first:
        relay._pass(events)
    assert (sink.status, sink.touched) == (0, len(first))
    relay._pass(word)
    assert (sink.status, sink.chunks) == (200, [b"".join(first) + word])


async def test_the_tokens_of_a_prompt_may_be_told_at_the_start() -> None:
    """llama-server's way; vLLM and Ollama tell all of it at the end."""
    delta = named("message_delta", usage={"output_tokens": 12})
    whole = named("message_delta", usage={"input_tokens": 16, "output_tokens": 12})

    assert (await relayed(MESSAGES, START, delta + STOP)).usage() == Usage(32, 12, 31)
    assert (await relayed(MESSAGES, START, SAID * 99, delta + STOP)).usage() == Usage(32, 12, 31)
    assert (await relayed(MESSAGES, START, whole + STOP)).usage() == Usage(16, 12, 0)
    assert (await relayed(MESSAGES, delta + STOP)).usage() == Usage(-1, 12, 0)
    assert (await relayed(MESSAGES, STOP)).usage() is None


async def test_the_last_usage_counts() -> None:
    events = [sse.dump({"choices": [], "usage": {"prompt_tokens": n}}) for n in (1, 2)]
    said = sse.dump({"choices": [{"delta": {"content": '"usage": "prompt_tokens"'}}]})
    assert (await relayed(CHAT, *events, said, DONE)).usage() == Usage(2, 0, 0)


@pytest.mark.parametrize(
    ("api", "tail", "whole"),
    [
        (CHAT, DONE, True),
        (CHAT, b"data:[DONE]", True),
        (CHAT, b"data:  [DONE] \r\n\r\n", True),
        (CHAT, b"data: [DONE]\r\r: bye", True),
        (CHAT, b"data: [DONE]\n\n: bye\n\n", True),
        (CHAT, b"data: [DO", False),
        (CHAT, STOP, False),
        (MESSAGES, STOP, True),
        (MESSAGES, STOP.rstrip(), True),
        (MESSAGES, b"event: message_stop", False),
        (RESPONSES, named("response.completed", response={}), True),
        (RESPONSES, named("response.incomplete", response={}), True),
        (RESPONSES, named("response.failed", response={}), True),
        (RESPONSES, named("response.created", response={}), False),
        (CHAT, sse.dump({"choices": [{"delta": {"content": "\ndata: [DONE]"}}]}), False),
        (CHAT, b"", False),
    ],
)
async def test_a_stream_says_itself_that_it_is_over(api: Api, tail: bytes, whole: bool) -> None:
    sink = RecordingSink()
    if whole:
        await relayed(api, WORD, tail, sink=sink)
        plain = tail.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        plain = plain.partition(b": bye")[0].rstrip(b"\n") + sse.BREAK
        assert sink.body == WORD + (sse.DONE if b"[DONE]" in plain else plain)
        return
    with pytest.raises(EngineFault, match="before its end was said") as caught:
        await relayed(api, WORD, tail, sink=sink)
    assert caught.value.away
    assert sink.body in (WORD + tail, WORD, b""), "no half event"


@pytest.mark.parametrize(
    ("api", "events", "end"),
    [
        (CHAT, [ROLE, WORD, FINISH, USAGE], DONE),
        (CHAT, [WORD, FINISH], DONE),
        (CHAT, [WORD, FINISH.rstrip()], DONE),
        (CHAT, [WORD, FINISH, b": bye"], DONE),
        (CHAT, [WORD, chunk({}, "length", 1), FINISH, USAGE], DONE),
        (CHAT, [WORD, FINISH, chunk({}), USAGE], DONE),
        (COMPLETIONS, [sse.dump({"choices": [{"text": "a", "finish_reason": "stop"}]})], DONE),
        (MESSAGES, [START, SAID, DELTA], STOP),
    ],
)
async def test_a_whole_answer_whose_end_is_not_said_gets_one(
    api: Api, events: list[bytes], end: bytes, logs: list[Any]
) -> None:
    sink = RecordingSink()
    await relayed(api, *events, sink=sink)
    assert sink.body == b"".join(events).rstrip() + sse.BREAK + end
    [line] = logs
    assert (line["event"], line["engine"]) == ("engine.end_not_said", "e")
    assert line["log_level"] == "warning"


@pytest.mark.parametrize(
    ("api", "events"),
    [
        (CHAT, [WORD, USAGE]),
        (CHAT, [WORD, FINISH, b'data: {"choices":[],"us']),
        (CHAT, [WORD, chunk({}, "stop", 1)]),
        (MESSAGES, [START, SAID]),
        (MESSAGES, [SAID, DELTA, b"event: message_st"]),
        (RESPONSES, [named("x.delta", delta="a")]),
    ],
)
async def test_half_an_answer_gets_no_end(api: Api, events: list[bytes]) -> None:
    sink = RecordingSink()
    with pytest.raises(EngineFault, match="before its end was said"):
        await relayed(api, *events, sink=sink)


async def test_a_cut_connection_is_no_end_unless_the_stream_had_ended() -> None:
    sink = RecordingSink()
    with pytest.raises(ConnectionBroken):
        await relayed(CHAT, WORD, FINISH, USAGE, cut=True)
    await relayed(CHAT, WORD, FINISH, USAGE, DONE, b": by", cut=True, sink=sink)
    assert sink.body == WORD + FINISH + USAGE + DONE


@pytest.mark.parametrize(
    ("api", "events"),
    [
        (CHAT, [DONE]),
        (CHAT, [b": ping\n\n", USAGE + DONE]),
        (CHAT, [AZURE, DONE]),
        (COMPLETIONS, [b"data:\n\n", DONE]),
        (media.API, [DONE]),
    ],
)
async def test_an_end_alone_is_no_answer(api: Api, events: list[bytes]) -> None:
    sink = RecordingSink()
    with pytest.raises(EngineFault, match="e sent a stream without an answer"):
        await relayed(api, *events, sink=sink)
    assert not sink.status


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([sse.dump({"detail": "broken"}), DONE], "without an answer: broken"),
        ([AZURE, b"data: null\n\n", DONE], "without an answer"),
        ([b'{"error":{"message":"broken"}}\n'], "before its end was said: broken"),
        ([b"<h1>Bad gateway</h1>"], "before its end was said: <h1>Bad gateway</h1>"),
        ([b": ping\n\n"], "before its end was said"),
        ([ROLE], "before its end was said"),
        ([WORD, b"<h1>Bad gateway</h1>"], "before its end was said"),
    ],
)
async def test_what_came_in_place_of_an_answer_is_told(events: list[bytes], said: str) -> None:
    with pytest.raises(EngineFault) as caught:
        await relayed(CHAT, *events)
    assert caught.value.message.endswith(said)


async def test_an_answer_without_a_word_is_one() -> None:
    sink = RecordingSink()
    await relayed(CHAT, ROLE, FINISH, DONE, sink=sink)
    assert sink.body == ROLE + FINISH + DONE


ERRORS = [
    (CHAT, sse.dump({"error": "broken"}), "e: broken"),
    (CHAT, b'data:{"id":"x","error":{"message":"broken"}}\n\n', "e: broken"),
    (CHAT, b'data: {"error": {\n\n', "inside the stream"),
    (CHAT, sse.dump({"choices": [], "error": {"message": "broken"}}), "e: broken"),
    (CHAT, sse.dump({"choices": [{"delta": {}, "error": {"message": "broken"}}]}), "e: broken"),
    (CHAT, chunk({"content": ""}, "error"), "the finish reason 'error'"),
    (CHAT, b'event: error\ndata: {"message":"broken"}\n\n', "e: broken"),
    (CHAT, b"event: error\ndata: broken\n\n", "e: broken"),
    (CHAT, sse.dump({"errors": [{"message": "broken"}]}), "e: broken"),
    (COMPLETIONS, sse.dump({"choices": [{"text": "", "finish_reason": "error"}]}), "'error'"),
    (MESSAGES, named("error", error={"message": "broken"}), "e: broken"),
    (RESPONSES, named("error", message="broken"), "e: broken"),
    (RESPONSES, named("response.failed", response={"error": {"message": "broken"}}), "e: broken"),
]


@pytest.mark.parametrize(("api", "event", "why"), ERRORS)
async def test_what_went_before_an_error_still_passes(api: Api, event: bytes, why: str) -> None:
    sink = RecordingSink()
    said = {"content": 'data: {"error": 1}', "text": "error", "delta": "error"}
    good = sse.dump({"choices": [{"delta": said, **said}], "error": None, **said})
    with pytest.raises(EngineFault, match=why):
        await relayed(api, good + event + DONE, sink=sink)
    assert sink.body == good


@pytest.mark.parametrize(("api", "event", "why"), ERRORS)
async def test_an_error_before_the_first_word_has_given_nothing(
    api: Api, event: bytes, why: str
) -> None:
    sink = RecordingSink()
    with pytest.raises(EngineFault, match=why) as caught:
        await relayed(api, AZURE, ROLE + event, DONE, sink=sink)
    assert (sink.status, caught.value.retryable, caught.value.away) == (0, True, False)


async def test_an_event_without_an_end_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse.Splitter.__init__, "__defaults__", (1000,))
    with pytest.raises(EngineFault, match="e sent an event of more than 1000 bytes") as caught:
        await relayed(CHAT, b"data: " + b"x" * 2000)
    assert caught.value.away
