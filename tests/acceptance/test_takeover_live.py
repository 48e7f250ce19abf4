"""Streams of a real llama.cpp whose engine or worker is killed or frozen: another server goes on.

The four streams run at the first server, which has a slot for each, and break together. The second
takes one at a time, so that it computes just what it does for the direct question to which its
part is held.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import orjson
import pytest
import pytest_asyncio

from deploy.nats import broker as brokers
from schemas.api import endpoints, sse
from schemas.jobs import Begun
from tests.acceptance.conftest import MODEL, RealLlama, running_llama
from tests.doubles.drive import RecordingSink, config, job, opened
from tests.fabric import Fabric, Process, fabric
from workers.engines.llamacpp.engine import LlamaCppEngine

CHAT, COMPLETIONS = endpoints.CHAT.path, endpoints.COMPLETIONS.path
RESPONSES, MESSAGES = endpoints.RESPONSES.path, endpoints.MESSAGES.path
LIMIT, BEFORE = 24, 2
"""Tokens of each answer, and texts of each stream before the blow."""
SAME: dict[str, Any] = {"temperature": 0, "cache_prompt": False}
USER = {"role": "user", "content": "Tell me a long story about a water mill."}
REQUESTS: dict[str, dict[str, Any]] = {
    CHAT: {
        "messages": [USER],
        "max_tokens": LIMIT,
        "stream_options": {"include_usage": True},
    },
    COMPLETIONS: {
        "prompt": "Once upon a time there was",
        "max_tokens": LIMIT,
        "stream_options": {"include_usage": True},
    },
    RESPONSES: {"input": USER["content"], "max_output_tokens": LIMIT},
    MESSAGES: {"messages": [USER], "max_tokens": LIMIT},
}
ONCE: dict[str, tuple[str, ...]] = {
    CHAT: ('"role"', '"finish_reason":"', '"usage":{', "data: [DONE]"),
    COMPLETIONS: ('"finish_reason":"', '"usage":{', "data: [DONE]"),
    RESPONSES: (
        *("event: response.created", "event: response.incomplete"),
        *("event: response.output_item.added", "event: response.content_part.added"),
    ),
    MESSAGES: ("event: message_start", "event: message_stop", '"stop_reason":"'),
}
"""What each stream says once, however many parts it has."""


class Stream:
    """What a client gets of one stream."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.api = endpoints.BY_PATH[path].api
        self.parts: list[list[bytes]] = [[]]
        """The events of each holder."""
        self.begun = asyncio.Event()

    async def run(self, fabric: Fabric) -> None:
        sent = {"model": MODEL, **SAME, **REQUESTS[self.path], "stream": True}
        splitter, url = sse.Splitter(), fabric.url + self.path
        async with fabric.session.post(url, json=sent, headers=fabric.headers) as answer:
            assert answer.status == 200, await answer.read()
            async for chunk in answer.content.iter_any():
                for event in sse.split(splitter.feed(chunk)):
                    if event.startswith(b": x-headrace-served-by"):
                        self.parts.append([])
                    self.parts[-1].append(event)
                if len(self.words(0)) >= BEFORE:
                    self.begun.set()

    def words(self, part: int) -> list[str]:
        heard = self.api.continuation().heard
        told = filter(None, map(sse.object_of, self.parts[part]))
        return list(filter(None, map(heard, told)))

    @property
    def events(self) -> list[dict[str, Any]]:
        return [found for part in self.parts for found in map(sse.object_of, part) if found]

    @property
    def repeated(self) -> str:
        """The whole text, where the last event says it."""
        output = (self.events[-1].get("response") or {}).get("output") or ()
        return "".join(part["text"] for item in output for part in item["content"])

    @property
    def tokens(self) -> tuple[int, int]:
        """Those of the prompt and of the answer, which messages tell in two events."""
        told = list(filter(None, map(self.api.usage, self.events)))
        return max(each.prompt for each in told), max(each.completion for each in told)


class Pair:
    """A fabric over two servers. The first is asked first, as long as it is there."""

    def __init__(self, fabric: Fabric, second: RealLlama) -> None:
        self.fabric = fabric
        self.second = second
        self._first = ExitStack()
        self.engine = 0
        self.worker: Process | None = None

    async def whole(self) -> None:
        """Start what a disaster has ended."""
        if not self.engine:
            self._first.close()
            first = self._first.enter_context(running_llama("--context", "2048"))
            self.engine, self._url = first.pid, first.url
            await self.lose_worker()
        if self.worker is None:
            self.worker = await self.fabric.worker(self._url, models=[MODEL])

    async def lose_worker(self) -> None:
        if self.worker is not None:
            await self.worker.kill()
            self.worker = None

    async def frozen(self) -> None:
        """For good: one that wakes up may have to connect again first."""
        assert self.worker is not None
        self.worker.signal(signal.SIGSTOP)
        self.worker = None

    async def worker_killed(self) -> None:
        await self.lose_worker()

    async def engine_killed(self) -> None:
        os.kill(self.engine, signal.SIGKILL)
        self.engine = 0

    def close(self) -> None:
        self._first.close()

    def count(self, text: str) -> int:
        _, body = self.second.post("/tokenize", {"content": text})
        return len(orjson.loads(body)["tokens"])

    def asked(self, path: str, so_far: str, limit: int) -> tuple[str, int]:
        """What the second server itself answers that is to go on from a text, and the tokens of the
        prompt. It is asked for texts, or in a chat."""
        where = path if path == COMPLETIONS else CHAT
        api = endpoints.BY_PATH[where].api
        request = api.with_beginning({**SAME, **REQUESTS[where]}, so_far)
        status, body = self.second.post(
            where, {**request, "max_tokens": limit, "stream_options": None}
        )
        assert status == 200, body
        document = orjson.loads(body)
        [choice] = document["choices"]
        text: str = choice.get("text") or choice["message"]["content"]
        # The answer of a chat repeats the beginning.
        return text.removeprefix(so_far), document["usage"]["prompt_tokens"]


Disaster = Callable[[Pair], Awaitable[None]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair(tmp_path_factory: pytest.TempPathFactory, llama: RealLlama) -> AsyncIterator[Pair]:
    home = tmp_path_factory.mktemp("pair")
    with brokers.start(home / "broker", 0, 0) as broker:
        async with fabric(broker, home) as made:
            await made.ingress({"ingress.keepalive": 60})
            second = f'''[[engines]]
name = "second"
kind = "llamacpp"
url = "{llama.url}"
slots = 1
priority = 1
models = ["{MODEL}"]
'''
            pair = Pair(made, llama)
            _, worker = await asyncio.gather(pair.whole(), made.crew(second))
            await worker.logged("engine.ready")
            await made.served(MODEL)
            try:
                yield pair
            finally:
                pair.close()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("disaster", [Pair.worker_killed, Pair.engine_killed, Pair.frozen])
async def test_streams_go_on_at_another_server(pair: Pair, disaster: Disaster) -> None:
    streams = await struck(pair, disaster)
    while not all(len(stream.parts) == 2 for stream in streams):
        streams = await struck(pair, disaster)  # one ended before the blow, on a busy machine
    for stream in streams:
        await asyncio.to_thread(check, pair, stream)
    await pair.fabric.idle()


async def struck(pair: Pair, disaster: Disaster) -> list[Stream]:
    await pair.whole()
    streams = [Stream(path) for path in REQUESTS]
    async with asyncio.TaskGroup() as group:
        for stream in streams:
            group.create_task(stream.run(pair.fabric))
        await asyncio.gather(*(stream.begun.wait() for stream in streams))
        await disaster(pair)
    return streams


def check(pair: Pair, stream: Stream) -> None:
    assert len(stream.parts) == 2
    first, rest = stream.words(0), stream.words(1)
    text, prompt = pair.asked(stream.path, "".join(first), LIMIT - len(first))
    assert "".join(rest) == text
    prompt -= pair.count("".join(first))
    assert stream.tokens == (prompt, LIMIT)
    said = b"\n\n".join(event for part in stream.parts for event in part).decode()
    assert stream.repeated in ("", "".join((*first, *rest)))
    once = ONCE[stream.path]
    assert {each: said.count(each) for each in once} == dict.fromkeys(once, 1)


SPENT: dict[str, str] = {
    CHAT: '"finish_reason":"length"',
    COMPLETIONS: '"finish_reason":"length"',
    RESPONSES: '"reason":"max_output_tokens"',
    MESSAGES: '"stop_reason":"max_tokens"',
}


@pytest.mark.parametrize("path", SPENT)
async def test_a_limit_that_is_used_up_leaves_no_word(llama: RealLlama, path: str) -> None:
    """The first holder was lost between its last token and its end."""
    body = {"model": MODEL, **SAME, **REQUESTS[path], "stream": True}
    sink, api = RecordingSink(), endpoints.BY_PATH[path].api
    async with opened(LlamaCppEngine(config("llamacpp", llama.url))) as engine:
        of = replace(job(MODEL, path, stream=True), begun=Begun(LIMIT, "The water mill is"))
        end = await engine.run(of, orjson.dumps(body), sink)
    assert not api.streamed.search(sink.body)
    assert SPENT[path] in sink.body.decode()
    assert end.completion_tokens == LIMIT
    told = list(filter(None, map(api.usage, sse.objects(sink.body))))
    assert told[-1].completion == LIMIT
