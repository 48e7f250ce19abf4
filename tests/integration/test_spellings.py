"""What real engines answer with status 200, through real processes: streams in every spelling are
whole, also joined (`n`) and held to a schema; errors, pages and halves are no answers."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import orjson
import pytest
import pytest_asyncio

from deploy.nats import broker as brokers
from schemas.api import sse
from tests.doubles.raw import CUT, EVENTS, JSON, WHOLE, Ending, RawServer, Said, raw_server
from tests.doubles.spellings import ALL, PLAIN, PROMPT, ROLE, SPELLINGS, TEXT, USAGE, delta, spelt
from tests.fabric import Fabric, Process, fabric
from tests.integration.one_endpoint import post
from tests.integration.uploads import Answer

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
RESPONSES, MESSAGES = "/v1/responses", "/v1/messages"
EMBEDDINGS, RERANK = "/v1/embeddings", "/v1/rerank"
MODERATIONS, IMAGES = "/v1/moderations", "/v1/images/generations"
TALK = [{"role": "user", "content": "x"}]
ASKED: dict[str, dict[str, Any]] = {
    CHAT: {"messages": TALK},
    COMPLETIONS: {"prompt": "x"},
    RESPONSES: {"input": "x"},
    MESSAGES: {"messages": TALK, "max_tokens": 9},
    EMBEDDINGS: {"input": "x"},
    RERANK: {"query": "x", "documents": ["x"]},
    MODERATIONS: {"input": "x"},
    IMAGES: {"prompt": "x"},
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Setup(NamedTuple):
    made: Fabric
    engine: RawServer
    worker: Process


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def setup(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Setup]:
    home = tmp_path_factory.mktemp("fabric")
    with brokers.start(home / "broker", 0, 0) as broker:
        async with (
            raw_server(dict.fromkeys(ASKED, Said(b"{}", JSON))) as engine,
            fabric(broker, home) as made,
        ):
            await made.ingress()
            worker = await made.worker(engine.url, kind="openai")
            await made.served("raw")
            yield Setup(made, engine, worker)


async def ask(setup: Setup, path: str, **more: Any) -> Answer:
    return await post(setup.made, path, {"model": "raw", **ASKED[path], **more})


@pytest.mark.parametrize("more", [{}, {"n": 2}, {"response_format": FORMAT}], ids=str)
@pytest.mark.parametrize("name", SPELLINGS)
async def test_a_stream_in_every_spelling_is_whole(
    setup: Setup, name: str, more: dict[str, Any]
) -> None:
    copies = more.get("n", 1)
    asked = {"stream": True, "stream_options": {"include_usage": True}, **more}
    for ending, pieces in (*((each, 1) for each in WHOLE), ("chunked", 9999)):
        setup.engine.says(CHAT, Said(SPELLINGS[name], EVENTS, ending, pieces))
        answer = await ask(setup, CHAT, **asked)
        assert answer.status == 200
        assert len(setup.engine.asked[CHAT]) == copies, "tried again"
        assert answer.body.count(b"[DONE]") == 1
        assert sse.end_of(answer.body) >= 0
        found = list(sse.objects(answer.body))
        assert not any("error" in event for event in found)
        text = ["", ""]
        for choice in (choice for event in found for choice in event["choices"]):
            text[choice["index"]] += choice.get("delta", {}).get("content") or ""
        assert text == [TEXT, TEXT if copies == 2 else ""]
        told = [event["usage"] for event in found if event.get("usage")]
        assert [each["completion_tokens"] for each in told] == [4 * copies]
        assert {event["id"] for event in found if event["choices"]} == {"c"}


@pytest.mark.parametrize("asked", [{"stream": True}, {}], ids=str)
@pytest.mark.parametrize("kind", ["text/plain", "", "Text/Event-Stream", JSON])
async def test_a_stream_is_one_under_any_type(
    setup: Setup, kind: str, asked: dict[str, Any]
) -> None:
    setup.engine.says(CHAT, Said(PLAIN, kind))
    answer = await ask(setup, CHAT, **asked)
    assert (answer.status, len(setup.engine.asked[CHAT])) == (200, 1)
    assert answer.headers["content-type"].partition(";")[0] == (EVENTS if asked else JSON)
    choices = [each["choices"] for each in sse.objects(answer.body)] if asked else []
    said = [c["delta"].get("content") or "" for chunk in choices for c in chunk]
    assert "".join(said) == TEXT if asked else TEXT in answer.json["choices"][0]["message"].values()


RESPONSE = {"id": "r", "status": "completed", "output": [], "usage": {"input_tokens": 3}}
WHOLE_ANSWERS: dict[str, dict[str, Any]] = {
    CHAT: {"choices": [{"index": 0, "message": {"content": TEXT}, "finish_reason": "stop"}]},
    COMPLETIONS: {"choices": [{"index": 0, "text": TEXT, "finish_reason": "stop"}]},
    RESPONSES: {
        **RESPONSE,
        "output": [{"type": "message", "content": [{"type": "output_text", "text": TEXT}]}],
    },
    MESSAGES: {
        "type": "message",
        "content": [{"type": "text", "text": TEXT}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 3, "output_tokens": 4},
    },
}


@pytest.mark.parametrize("path", WHOLE_ANSWERS)
async def test_a_whole_answer_in_place_of_a_stream_becomes_one(setup: Setup, path: str) -> None:
    setup.engine.says(path, Said(orjson.dumps(WHOLE_ANSWERS[path]), JSON))
    answer = await ask(setup, path, stream=True)
    assert (answer.status, len(setup.engine.asked[path])) == (200, 1)
    assert answer.headers["content-type"].partition(";")[0] == EVENTS
    assert sse.end_of(answer.body) >= 0
    assert orjson.dumps(TEXT) in answer.body


LOOSE = (b'"a\xff"', rb'"a\ud83d"', b'"a\xef\xbf\xbd","p":NaN', b'"a\xef\xbf\xbd","p":-Infinity')
CHOICE = b'{"choices":[{"index":0,"%b":{"content":%b},"finish_reason":"stop"}]}'


@pytest.mark.parametrize(
    "asked", [{}, {"stream": True}, {"n": 2}, {"n": 2, "stream": True}], ids=str
)
@pytest.mark.parametrize("said", LOOSE)
async def test_json_that_not_every_parser_reads_is_an_answer(
    setup: Setup, said: bytes, asked: dict[str, Any]
) -> None:
    streams = "stream" in asked
    body = CHOICE % (b"delta" if streams else b"message", said)
    setup.engine.says(
        CHAT, Said(b"data: %b\n\n" % body if streams else body, EVENTS if streams else JSON)
    )
    answer = await ask(setup, CHAT, **asked)
    assert (answer.status, len(setup.engine.asked[CHAT])) == (200, asked.get("n", 1))
    found = list(sse.objects(answer.body)) if streams else [answer.json]
    choices = [choice for each in found for choice in each["choices"]]
    texts = [(c.get("delta") or c.get("message") or {}).get("content") for c in choices]
    assert [text for text in texts if text] == ["a\ufffd"] * asked.get("n", 1)


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_may_be_something_created(setup: Setup, stream: bool) -> None:
    good = Said(PLAIN) if stream else Said(GOOD, JSON)
    setup.engine.says(CHAT, good._replace(status=201))
    answer = await ask(setup, CHAT, stream=stream)
    assert (answer.status, len(setup.engine.asked[CHAT])) == (200, 1)


@pytest.mark.parametrize("stream", [True, False])
async def test_what_comes_packed_is_unpacked(setup: Setup, stream: bool) -> None:
    kind = f"{EVENTS if stream else JSON}\r\nContent-Encoding: gzip"
    setup.engine.says(CHAT, Said(gzip.compress(PLAIN if stream else GOOD), kind, pieces=9))
    answer = await ask(setup, CHAT, stream=stream)
    assert (answer.status, len(setup.engine.asked[CHAT])) == (200, 1)


async def test_an_end_that_is_not_said_is_logged(setup: Setup) -> None:
    before = setup.worker.count("engine.end_not_said")
    setup.engine.says(CHAT, Said(spelt(done=b""), EVENTS))
    await ask(setup, CHAT, stream=True)
    await setup.worker.logged("engine.end_not_said", skip=before, level="warning")


@pytest.mark.parametrize("ending", CUT)
async def test_a_connection_that_is_cut_is_no_end(setup: Setup, ending: Ending) -> None:
    """The engine is then in doubt, and has to pass its check before each of its next jobs."""
    begun = PLAIN[: PLAIN.rindex(b"data: ", 0, PLAIN.index(b'"stop"'))]
    cut, check = Said(begun, EVENTS, ending), Said(GOOD, JSON)
    setup.engine.says(CHAT, cut, check, cut, check, cut, check)
    answer = await ask(setup, CHAT, stream=True)
    assert _code(answer) in ((502, "engine_failed"), (200, "stream_interrupted"))
    assert b"[DONE]" not in answer.body
    await setup.made.served("raw")


def _code(answer: Answer) -> tuple[int, str]:
    """(status, code) of a failed stream. If the client has a part of it, its status is 200."""
    if answer.status != 200:
        return answer.status, answer.error["code"]
    [error] = [event["error"] for event in sse.objects(answer.body) if "error" in event]
    return 200, error["code"]


async def test_a_usage_that_comes_twice_counts_once(setup: Setup) -> None:
    twice = {**USAGE, "usage": {"prompt_tokens": 3, "completion_tokens": 5}}
    said = b"".join(sse.dump(each) for each in (*ALL, twice)) + sse.DONE
    setup.engine.says(CHAT, Said(said, EVENTS))
    answer = await ask(setup, CHAT, n=2, stream=True, stream_options={"include_usage": True})
    told = [event["usage"] for event in sse.objects(answer.body) if event.get("usage")]
    assert [(each["prompt_tokens"], each["completion_tokens"]) for each in told] == [(3, 10)]


BROKE = {"message": "it broke", "code": 500}
PAGE = b"<!DOCTYPE html><h1>Bad gateway</h1>"
GOOD = orjson.dumps({"choices": [{"index": 0, "message": {"content": '{"a":1}'}}]})
NONE: dict[str, tuple[bytes, str]] = {
    "an error": (orjson.dumps({"error": BROKE}), "it broke"),
    "a text as error": (b'{"error":"it broke"}', "it broke"),
    "an error of a choice": (
        orjson.dumps({"choices": [{"message": {"content": ""}, "error": BROKE}]}),
        "it broke",
    ),
    "a failed choice": (
        b'{"choices":[{"message":{"content":"{}"},"text":"","finish_reason":"error"}]}',
        "finish reason 'error'",
    ),
    "a detail": (b'{"detail":"it broke"}', "it broke"),
    "a page": (PAGE, "Bad gateway"),
    "nothing": (b"", "empty"),
    "half of it": (GOOD[:40], "no JSON"),
    "null": (b"null", "no answer"),
    "no choices": (b'{"choices":[],"data":[],"results":[]}', "an answer without"),
    "nulls": (
        b'{"choices":null,"data":null,"results":null,"output":null,"content":null}',
        "an answer without",
    ),
    "another's form": (b'{"choices":[{}],"data":[{}],"results":[{}]}', "an answer without"),
}


@pytest.mark.parametrize("name", NONE)
@pytest.mark.parametrize("path", ASKED)
async def test_a_document_that_is_no_answer_is_tried_again(
    setup: Setup, path: str, name: str
) -> None:
    body, said = NONE[name]
    setup.engine.says(path, Said(body, JSON, "sized"))
    answer = await ask(setup, path)
    assert (answer.status, len(setup.engine.asked[path])) == (502, 3)
    message = answer.error["message"]
    assert said in message or "an answer without" in message
    if path != MESSAGES:
        assert answer.told == (502, "engine_failed", None)


@pytest.mark.parametrize("more", [{"n": 2}, {"response_format": FORMAT}], ids=str)
@pytest.mark.parametrize("name", NONE)
async def test_joined_or_held_to_a_schema_it_is_none_either(
    setup: Setup, name: str, more: dict[str, Any]
) -> None:
    body, said = NONE[name]
    setup.engine.says(CHAT, Said(body, JSON, "sized"))
    answer = await ask(setup, CHAT, **more)
    assert answer.told == (502, "engine_failed", None)
    assert said in answer.error["message"]


@pytest.mark.parametrize(
    ("more", "choice"),
    [
        ({"n": 2}, {"index": "a", "message": {"content": "x"}}),
        ({"n": 2}, {"message": {"content": "x"}, "index": [1]}),
        ({"response_format": FORMAT}, {"message": {"content": 5}, "finish_reason": "stop"}),
        ({"response_format": FORMAT}, {"message": {"tool_calls": 5}, "finish_reason": "stop"}),
    ],
    ids=str,
)
async def test_what_only_looks_like_an_answer_is_none_where_it_is_read(
    setup: Setup, more: dict[str, Any], choice: dict[str, Any]
) -> None:
    setup.engine.says(CHAT, Said(orjson.dumps({"choices": [choice]}), JSON))
    answer = await ask(setup, CHAT, **more)
    assert answer.told == (502, "engine_failed", None)


async def test_an_event_that_cannot_be_joined_ends_the_stream(setup: Setup) -> None:
    odd = {"id": "c", "choices": [5]}
    events = [ROLE, delta({"content": "a"}), odd, delta({}, "stop")]
    setup.engine.says(CHAT, Said(b"".join(map(sse.dump, events)) + sse.DONE))
    answer = await ask(setup, CHAT, stream=True, n=2)
    assert _code(answer) in ((502, "engine_failed"), (200, "engine_failed"))


async def test_the_next_try_may_succeed(setup: Setup) -> None:
    bad, good = Said(b'{"error":"it broke"}', JSON), Said(GOOD, JSON)
    setup.engine.says(CHAT, bad, good)
    assert (await ask(setup, CHAT)).status == 200
    failed = Said(b"".join(map(sse.dump, (PROMPT, ROLE, {"choices": [], "error": BROKE}))))
    setup.engine.says(CHAT, failed, Said(PLAIN))
    answer = await ask(setup, CHAT, stream=True)
    assert (answer.status, b"it broke" in answer.body) == (200, False)


@pytest.mark.parametrize("more", [{}, {"n": 2}, {"response_format": FORMAT}], ids=str)
@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([{"choices": [], "error": BROKE}], "it broke"),
        ([ROLE, {"choices": [], "error": BROKE}], "it broke"),
        ([ROLE, {"error": "it broke"}], "it broke"),
        ([ROLE, delta({}, "error")], "finish reason 'error'"),
        ([ROLE, delta({}, None, errors=[BROKE])], "it broke"),
        ([PROMPT], "without an answer"),
        ([], "without an answer"),
    ],
)
async def test_a_stream_that_is_no_answer_is_a_502(
    setup: Setup, events: list[Any], said: str, more: dict[str, Any]
) -> None:
    setup.engine.says(CHAT, Said(b"".join(map(sse.dump, events)) + sse.DONE, pieces=9))
    answer = await ask(setup, CHAT, stream=True, **more)
    assert answer.told == (502, "engine_failed", None)
    assert said in answer.error["message"]


async def test_a_stream_that_fails_behind_its_first_word_is_broken(setup: Setup) -> None:
    failed = [*ALL[:3], delta({"content": "?"}, "error")]
    setup.engine.says(CHAT, Said(b"".join(map(sse.dump, failed)) + sse.DONE))
    answer = await ask(setup, CHAT, stream=True)
    assert _code(answer) in ((502, "engine_failed"), (200, "stream_interrupted"))
    assert b"finish reason 'error'" in answer.body


async def test_an_engine_that_always_streams_gives_documents(setup: Setup) -> None:
    setup.engine.says(CHAT, Said(PLAIN))
    answer = await ask(setup, CHAT)
    document = orjson.loads(answer.body)
    assert document["choices"][0]["message"]["content"] == TEXT
    assert answer.headers["content-type"] == JSON
