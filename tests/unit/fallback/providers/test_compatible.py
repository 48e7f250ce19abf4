"""Providers that are like OpenAI, by config alone."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from fallback.providers import make, openai
from fallback.providers.base import ProviderFault
from schemas import settings
from tests.doubles.drive import RecordingSink
from tests.doubles.providers import Compatible, Groq, OpenRouter, Together, broken
from tests.unit.fallback.providers.tasks import KEY, chat, opened, same

STREAMED = pytest.mark.parametrize("stream", [False, True])


@STREAMED
@pytest.mark.parametrize("kind", [Compatible, OpenRouter, Groq, Together])
async def test_they_answer(
    monkeypatch: pytest.MonkeyPatch, kind: type[Compatible], stream: bool
) -> None:
    async with kind(key=KEY) as sim, opened(monkeypatch, "compatible", sim.base_url) as cloud:
        sink = RecordingSink()
        spent = await cloud.call(chat(next(iter(sim.known)), stream=stream), sink)
        assert same(spent, sim)
    if stream:
        assert all("usage" not in event and event["choices"] for event in sink.events)
        assert not sink.body.startswith(b":")
        assert b"PROCESSING" not in sink.body


async def test_an_error_as_a_finish_reason_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async with OpenRouter(key=KEY) as sim, opened(monkeypatch, "compatible", sim.base_url) as cloud:
        sim.faults.add(broken(2))
        sink = RecordingSink()
        with pytest.raises(ProviderFault):
            await cloud.call(chat("openai/gpt-4o-mini", stream=True), sink)
    assert sink.body
    assert b'"error"' not in sink.body


async def test_without_a_key(sim_url: str) -> None:
    cloud = make(settings.Provider(name="own", url=sim_url))
    await cloud.open()
    try:
        assert (await cloud.call(chat("some-model"), RecordingSink())).told
    finally:
        await cloud.close()


@pytest.fixture
async def sim_url() -> AsyncIterator[str]:
    async with Compatible() as sim:
        yield sim.base_url


@pytest.mark.parametrize("kind", ["openai", "google", "anthropic"])
async def test_the_known_ones_need_a_key(kind: str) -> None:
    cloud = make(settings.Provider.model_validate({"name": "x", "kind": kind}))
    with pytest.raises(ProviderFault, match="needs a key") as caught:
        await cloud.open()
    assert caught.value.reason == "key"


async def serve(body: bytes, content_type: str) -> tuple[web.AppRunner, str]:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=body, headers={"content-type": content_type})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}/v1"


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        (b"<html>log in</html>", "text/html", "failed"),
        (b"[]", "application/json", "failed"),
        (b'{"object":"x"}', "application/json", "failed"),
        (b'{"error":{"code":429,"message":"slow"}}', "application/json", "busy"),
        (b'{"error":{"code":402,"message":"poor"}}', "application/json", "key"),
        (b'{"error":"broken"}', "application/json", "failed"),
        (b": only a comment\n\n", "text/event-stream", "failed"),
        (b'data: {"error":{"message":"no"}}\n\ndata: [DONE]\n\n', "text/event-stream", "failed"),
    ],
)
async def test_nonsense_under_200_is_no_answer(
    monkeypatch: pytest.MonkeyPatch, body: bytes, content_type: str, reason: str
) -> None:
    runner, url = await serve(body, content_type)
    try:
        async with opened(monkeypatch, "compatible", url) as cloud:
            sink = RecordingSink()
            with pytest.raises(ProviderFault) as caught:
                await cloud.call(chat("m"), sink)
    finally:
        await runner.cleanup()
    assert caught.value.reason == reason
    assert not sink.body


async def test_an_event_without_an_end_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai, "LARGEST_EVENT", 64)
    runner, url = await serve(b"data: " + b"a" * 64, "text/event-stream")
    try:
        async with opened(monkeypatch, "compatible", url) as cloud:
            with pytest.raises(ProviderFault, match="more than 64 bytes"):
                await cloud.call(chat("m", stream=True), RecordingSink())
    finally:
        await runner.cleanup()


async def test_lines_may_end_in_the_old_way(monkeypatch: pytest.MonkeyPatch) -> None:
    event = b'data: {"model":"x","choices":[{"delta":{"content":"hi"}}]}\r\n\r\n'
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}\r\n\r\n'
    runner, url = await serve(event + usage + b"data: [DONE]\r\n\r\n", "text/event-stream")
    try:
        async with opened(monkeypatch, "compatible", url) as cloud:
            sink = RecordingSink()
            spent = await cloud.call(chat("m", stream=True), sink)
    finally:
        await runner.cleanup()
    assert (spent.prompt, spent.completion, spent.told) == (3, 1, True)
    assert b"\r" not in sink.body
    assert [event["choices"][0]["delta"]["content"] for event in sink.events] == ["hi"]
