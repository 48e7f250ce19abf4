"""Workers that die, freeze or fail in the middle of a stream: another goes on where the client's
text ends, so the client sees one stream. Echo engines, whose text is known token by token."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import orjson
import pytest

from schemas.api import endpoints, sse
from tests.doubles.llamacpp.server import LlamaCpp
from tests.doubles.llamacpp.slots import Settings
from tests.doubles.ollama.native import Model
from tests.doubles.ollama.server import Ollama
from tests.doubles.vllm.server import Vllm
from tests.fabric import Fabric, Process, ask, read_until
from tests.gate import ALL, SHUT

WORDS = " ".join(f"w{number}" for number in range(40))
GATED = f"echo://?model=echo&token_ms={SHUT}"
"""No token comes before the disaster that is to be between it and the one before is over."""
USER = {"role": "user", "content": WORDS}
USAGE = {"stream_options": {"include_usage": True}}
REQUESTS: dict[str, dict[str, Any]] = {
    endpoints.CHAT.path: {"messages": [USER], "max_tokens": 30, **USAGE},
    endpoints.COMPLETIONS.path: {"prompt": WORDS, "max_tokens": 30, **USAGE},
    endpoints.RESPONSES.path: {"input": WORDS, "max_output_tokens": 30},
    endpoints.MESSAGES.path: {"messages": [USER], "max_tokens": 30},
}
OWN = frozenset({"id", "created", "created_at", "completed_at", "item_id"})
"""Fields whose values differ from one answer to the next."""
KEEP_ALIVE = b": keep-alive"
Disaster = Callable[["Watched"], Awaitable[None]]
"""What happens in the middle of a stream."""


class Watched:
    """One streamed request to workers that meet disasters. Their echo engines have said nothing
    before, and say as many texts as there are to be before the next disaster."""

    def __init__(
        self, fabric: Fabric, workers: list[Process], path: str, hold_back: bool = False
    ) -> None:
        self._fabric = fabric
        self._headers = {"x-headrace-hold-back": "true"} if hold_back else {}
        self._workers = workers
        self._path = path
        self._struck: list[Process] = []
        self.events: list[bytes] = []
        self.unsaid = 0
        """Tokens before the first text that are in none."""

    async def run(self, body: dict[str, Any], disasters: dict[int, Disaster]) -> list[Any]:
        """The stream's objects, without what differs from one answer to the next. `disasters`: by
        the number of texts that came before; one of 0 comes with the first comment."""
        sent = {"model": "echo", **body, "stream": True}
        url, headers = self._fabric.url + self._path, {**self._fabric.headers, **self._headers}
        api = endpoints.BY_PATH[self._path].api
        splitter, texts = sse.Splitter(), 0
        self._open_gates(disasters, 0)
        async with self._fabric.session.post(url, json=sent, headers=headers) as answer:
            assert answer.status == 200, await answer.read()
            async for chunk in answer.content.iter_any():
                for event in sse.split(splitter.feed(chunk)):
                    self.events.append(event)
                    texts += bool(api.streamed.search(event))
                    now = (texts == 0 and event == KEEP_ALIVE) or api.streamed.search(event)
                    if now and (disaster := disasters.pop(texts, None)):
                        await disaster(self)
                        self._open_gates(disasters, texts)
        assert not disasters, "each has struck"
        return [plain(found) for found in map(sse.object_of, self.events) if found is not None]

    def _open_gates(self, disasters: dict[int, Disaster], texts: int) -> None:
        """Of the workers that have not been struck, until the next disaster."""
        most = min(disasters) - texts + self.unsaid if disasters else ALL
        for worker in self._workers:
            if worker not in self._struck:
                worker.open_gate(most)

    async def holder(self) -> Process:
        """The worker that runs the stream."""

        def found() -> list[Process]:
            return [
                worker
                for worker in self._workers
                if worker not in self._struck
                and attempts(worker, "runner.began") - attempts(worker, "runner.ended")
            ]

        await read_until(found, self._workers)
        [holder] = found()
        self._struck.append(holder)
        return holder


def attempts(worker: Process, event: str) -> Counter[tuple[str, int]]:
    """Those that a worker began, or ended: it also ends some that it never began."""
    lines = (line for line in worker.lines if line.get("event") == event)
    return Counter((line["job"], line["attempt"]) for line in lines)


def plain(found: Any) -> Any:
    if isinstance(found, dict):
        return {name: plain(value) for name, value in found.items() if name not in OWN}
    return [plain(each) for each in found] if isinstance(found, list) else found


async def killed(stream: Watched) -> None:
    await (await stream.holder()).kill()


async def crew(fabric: Fabric, *engines: str, **config: Any) -> list[Process]:
    """`config`: settings of the ingress, by path, with two underscores in the place of its dot."""
    await fabric.ingress({name.replace("__", "."): value for name, value in config.items()})
    workers = list(await asyncio.gather(*map(fabric.worker, engines)))
    await fabric.served("echo")
    return workers


@pytest.mark.parametrize("path", REQUESTS)
async def test_a_stream_goes_on_as_if_nothing_had_happened(fabric: Fabric, path: str) -> None:
    workers = await crew(fabric, GATED, GATED, GATED)
    stream = Watched(fabric, workers, path)
    found = await stream.run(REQUESTS[path], {6: killed, 17: killed})
    assert found == await Watched(fabric, workers, path).run(REQUESTS[path], {})
    assert len(set(filter(None, map(_id, stream.events)))) == 1
    assert stream.events.count(sse.DONE.strip()) == (path in list(REQUESTS)[:2])
    ingress = fabric.processes[0]
    line = await ingress.logged("request")
    assert (line["attempts"], line["prompt_tokens"], line["completion_tokens"]) == (3, 40, 30)
    await fabric.idle()


def _id(event: bytes) -> str | None:
    found = sse.object_of(event) or {}
    return (found.get("response") or found.get("message") or found).get("id")


async def test_a_frozen_worker_that_wakes_up_changes_nothing(fabric: Fabric) -> None:
    workers = await crew(fabric, GATED, GATED)
    frozen: list[Process] = []

    async def freeze(stream: Watched) -> None:
        frozen.append(await stream.holder())
        frozen[0].signal(signal.SIGSTOP)

    async def wake(_: Watched) -> None:
        frozen[0].open_gate()  # it would go on
        frozen[0].signal(signal.SIGCONT)
        await frozen[0].logged("runner.ended")

    stream = Watched(fabric, workers, endpoints.CHAT.path)
    found = await stream.run({"messages": [USER]}, {6: freeze, 20: wake})
    assert said(found) == WORDS
    assert (await frozen[0].logged("runner.ended"))["verdict"] == ""
    await fabric.idle()


def said(found: list[Any], field: str = "content") -> str:
    return "".join(
        choice["delta"].get(field) or "" for event in found for choice in event.get("choices") or ()
    )


async def test_many_streams_whose_tokens_go_out_together_lose_none(fabric: Fabric) -> None:
    """Enough of them that those of a worker wait for each other, and one worker dies then. Each
    has as many as it has slots, and as many tokens pass its gate before."""
    each, before = 24, 12 * 24
    workers = await crew(fabric, *[f"{GATED}&slots={each}"] * 2)
    await fabric.slots("echo", 2 * each)
    for worker in workers:
        worker.open_gate(before)
    said, begun = 0, asyncio.Event()

    def more(text: str) -> None:
        nonlocal said
        said += len(text.split())
        if said == 2 * before:
            begun.set()

    async def strike() -> None:
        await begun.wait()
        await workers[0].kill()
        workers[1].open_gate()

    streams = (fabric.stream(ask(WORDS), on_text=more) for _ in range(2 * each))
    found = await asyncio.gather(strike(), *streams)
    assert found[1:] == [(200, WORDS, True)] * (2 * each)
    await fabric.idle()


async def test_an_engine_that_fails_mid_stream_is_continued_elsewhere(fabric: Fabric) -> None:
    """The worker lives, and says so: nobody has to be missed first."""
    workers = await crew(fabric, GATED, GATED)
    body = {"messages": [USER], "echo": {"fault": "cut", "at": 15, "token_ms": 5}}
    found = await Watched(fabric, workers, endpoints.CHAT.path).run(body, {})
    assert said(found) == WORDS
    await fabric.idle()


async def test_a_request_that_waits_in_a_file_is_continued_too(fabric: Fabric) -> None:
    workers = await crew(fabric, GATED, GATED)
    body = {"messages": [USER], "padding": "x" * 500_000}
    found = await Watched(fabric, workers, endpoints.CHAT.path).run(body, {8: killed})
    assert said(found) == WORDS
    await fabric.idle()


async def test_there_are_as_many_takeovers_as_attempts(fabric: Fabric) -> None:
    workers = await crew(fabric, GATED, GATED, GATED, GATED)
    stream = Watched(fabric, workers, endpoints.CHAT.path)
    found = await stream.run({"messages": [USER]}, {4: killed, 8: killed, 12: killed})
    assert found[-1]["error"]["code"] == "stream_interrupted"
    assert said(found) == " ".join(WORDS.split()[:12])
    await fabric.idle()


async def test_a_stop_that_straddles_the_cut_stops(fabric: Fabric) -> None:
    workers = await crew(fabric, GATED, GATED)
    stream = Watched(fabric, workers, endpoints.CHAT.path)
    found = await stream.run({"messages": [USER], "stop": ["w20 w21"]}, {8: killed})
    assert said(found) == f"{' '.join(WORDS.split()[:20])} "
    assert found[-1]["choices"][0]["finish_reason"] == "stop"


async def test_the_only_worker_may_come_back(fabric: Fabric) -> None:
    """Long after the claim deadline: by the third comment the stream would have ended."""
    workers = await crew(fabric, GATED, routes__claim=0.2, ingress__keepalive=0.5)
    coming: list[asyncio.Task[None]] = []

    async def come_back(stream: Watched) -> None:
        while stream.events.count(KEEP_ALIVE) < 3:
            await asyncio.sleep(0.01)
        workers.append(await fabric.worker())

    async def restarted(stream: Watched) -> None:
        await (await stream.holder()).kill()
        coming.append(asyncio.create_task(come_back(stream)))

    stream = Watched(fabric, workers, endpoints.CHAT.path)
    found = await stream.run({"messages": [USER]}, {5: restarted})
    for task in coming:
        task.cancel()
    assert said(found) == WORDS


async def test_one_that_cannot_continue_is_not_asked(fabric: Fabric) -> None:
    workers = await crew(fabric, f"{GATED}&resume=0")
    workers.append(await fabric.worker(GATED))
    stream = Watched(fabric, workers, endpoints.CHAT.path)
    found = await stream.run({"messages": [USER]}, {5: killed})
    assert found[-1]["error"]["code"] == "stream_interrupted"
    await fabric.idle()


@pytest.mark.parametrize(
    ("words", "code"), [('{"a": 1, "b": [1, 2, 3, 4, 5]}', ""), ('{"a": 1, "b": [1, 2, 3, 4,', "x")]
)
async def test_a_format_is_held_over_both_parts(fabric: Fabric, words: str, code: str) -> None:
    workers = await crew(fabric, GATED, GATED)
    schema = {"type": "object", "properties": {"b": {"type": "array"}}, "required": ["b"]}
    kind = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    body = {"messages": [{"role": "user", "content": words}], "response_format": kind}
    stream = Watched(fabric, workers, endpoints.CHAT.path)
    found = await stream.run(body, {4: killed})
    if code:
        assert found[-1]["error"]["code"] == "invalid_structured_output"
        assert sse.DONE.strip() not in stream.events
    else:
        assert orjson.loads(said(found)) == orjson.loads(words)
    await fabric.idle()


@pytest.mark.parametrize("shown", [False, True])
async def test_thoughts_begin_anew_unless_they_are_to_be_seen(fabric: Fabric, shown: bool) -> None:
    workers = await crew(fabric, GATED, GATED)
    body = {
        "messages": [USER],
        "echo": {"thinks": "hm " * 99, "token_ms": SHUT},
        **({"include_reasoning": True} if shown else {}),
    }
    stream = Watched(fabric, workers, endpoints.CHAT.path)
    found = await stream.run(body, {3: killed})
    deltas = [choice["delta"] for event in found for choice in event.get("choices") or ()]
    assert len([each for each in deltas if each.get("reasoning_content")]) < 99
    assert said(found) == ("" if shown else WORDS)
    assert ("error" in found[-1]) is shown
    await fabric.idle()


THINKING = 30
"""Tokens of thoughts before the text. The one that ends them is in no event."""


async def test_thoughts_go_on_where_the_template_takes_them_back(fabric: Fabric) -> None:
    """One worker dies within the thought, one behind it. The limit holds over all parts."""
    await fabric.ingress()
    shown = {"include_reasoning": True}  # so that nothing may begin anew
    body = {"model": "own", "messages": [USER], "max_tokens": 56, **USAGE, **shown}
    settings = Settings(slots=1, token_ms=60, tokens=80, continues=True, thoughts=THINKING)
    async with AsyncExitStack() as stack:
        sims = [await stack.enter_async_context(LlamaCpp(settings)) for _ in range(3)]
        urls = [sim.url for sim in sims]
        workers = [await fabric.worker(url, kind="llamacpp") for url in urls]
        await fabric.served("own")
        path = endpoints.CHAT.path
        undisturbed = await Watched(fabric, workers, path).run(body, {})
        stream = Watched(fabric, workers, path)
        found = await stream.run(body, {3: killed, THINKING + 3: killed})
        asked = [each for sim in sims for each in sim.asked(path) if "messages" in each]
    for each in (undisturbed[-1], found[-1]):
        del each["timings"]  # of one engine alone
    assert found == undisturbed
    thoughts, text = said(found, "reasoning_content"), said(found)
    assert (len(thoughts.split()), len(text.split())) == (THINKING, 56 - THINKING - 1)
    last = [each["messages"][-1] for each in asked]
    begun = [each for each in last if each["role"] == "assistant"]
    assert sorted(bool(each["content"]) for each in begun) == [False, True]
    assert all(thoughts.startswith(each["reasoning_content"]) for each in begun)
    await fabric.idle()


async def test_calls_are_not_continued(fabric: Fabric) -> None:
    workers = await crew(fabric, GATED, GATED)
    stream = Watched(fabric, workers, endpoints.CHAT.path)
    stream.unsaid = 1  # the name
    body = {"messages": [USER], "tools": [TOOL], "echo": {"calls": [CALL], "token_ms": SHUT}}
    assert (await stream.run(body, {1: killed}))[-1]["error"]["code"] == "stream_interrupted"
    await fabric.idle()


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL = {"name": "f", "arguments": {"text": WORDS}}


async def test_what_is_held_back_begins_anew(fabric: Fabric) -> None:
    """The client gets comments, and then one whole answer with calls. The first comment comes when
    the call has begun already: passed on as it comes, that would be no comment before any text."""
    workers = await crew(fabric, GATED, GATED, ingress__keepalive=0.6)
    body = {"messages": [USER], "tools": [TOOL], "echo": {"calls": [CALL], "token_ms": SHUT}}
    stream = Watched(fabric, workers, endpoints.CHAT.path, hold_back=True)
    stream.unsaid = 2  # the name, and half of the arguments
    found = await stream.run(body, {0: killed})
    assert found == await Watched(fabric, workers, endpoints.CHAT.path).run(body, {})
    assert KEEP_ALIVE in stream.events
    await fabric.idle()


TOLD: dict[str, tuple[type[Vllm] | type[Ollama], str, str]] = {
    "vllm": (Vllm, "tiny", endpoints.CHAT.path),
    "vllm_texts": (Vllm, "tiny", endpoints.COMPLETIONS.path),
    "ollama": (Ollama, "tiny:latest", endpoints.CHAT.path),
}


@pytest.mark.parametrize("case", TOLD)
async def test_engines_that_are_told_in_their_own_words(fabric: Fabric, case: str) -> None:
    """A chat of vLLM says that its last message goes on, and one of Ollama ends with it."""
    kind, model, path = TOLD[case]
    await fabric.ingress()
    async with kind() as one, kind() as other:
        sims = one, other
        workers = [await fabric.worker(sim.url, kind=case.removesuffix("_texts")) for sim in sims]
        await fabric.served(model)
        body = {**REQUESTS[path], "model": model}
        undisturbed = await Watched(fabric, workers, path).run(body, {})
        for sim in sims:
            sim.token_s = 0.1
        before = {sim.url: len(sim.asked(path)) for sim in sims}
        stream = Watched(fabric, workers, path)
        assert await stream.run(body, {6: killed}) == undisturbed
        sent = [asked for sim in sims for asked in sim.asked(path)[before[sim.url] :]]
        [again] = [asked for asked in sent if asked["max_tokens"] < body["max_tokens"]]
    begun = " ".join(WORDS.split()[: body["max_tokens"] - again["max_tokens"]])
    if path == endpoints.COMPLETIONS.path:
        assert again["prompt"] == WORDS + begun
    else:
        assert again["messages"] == [USER, {"role": "assistant", "content": begun}]
        assert again.get("continue_final_message", False) is (kind is Vllm)
    await fabric.idle()


async def test_a_template_that_ends_each_message_lets_nothing_go_on(fabric: Fabric) -> None:
    await fabric.ingress()
    model = "tiny:latest"
    async with Ollama(Model(model, closes=True)) as one, Ollama(Model(model, closes=True)) as two:
        workers = [await fabric.worker(sim.url, kind="ollama") for sim in (one, two)]
        await fabric.served(model)
        one.token_s = two.token_s = 0.1
        stream = Watched(fabric, workers, endpoints.CHAT.path)
        found = await stream.run({"messages": [USER], "model": model}, {6: killed})
    assert found[-1]["error"]["code"] == "stream_interrupted"
