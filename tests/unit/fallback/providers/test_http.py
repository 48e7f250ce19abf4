"""Heads and documents of providers without an end, or nearly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from fallback.providers import http
from fallback.providers.base import Provider, ProviderFault
from tests.doubles.drive import RecordingSink
from tests.doubles.hostile.server import ACTS, Act, HostileServer, document, hostile_server, pieces
from tests.turns import longest_turn
from tests.unit.fallback.providers.tasks import chat, opened

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\n\r\n"
BODY = document(usage={"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2})
SIZE = b"Content-Length: %d\r\n\r\n" % len(BODY)


@asynccontextmanager
async def provided(
    monkeypatch: pytest.MonkeyPatch, act: Act
) -> AsyncIterator[tuple[Provider, HostileServer]]:
    async with hostile_server() as server:
        server.act = act
        async with opened(monkeypatch, "compatible", server.base_url, silence=5) as provider:
            yield provider, server


async def fault_of(provider: Provider) -> ProviderFault:
    sink = RecordingSink()
    with pytest.raises(ProviderFault) as fault:
        await provider.call(chat("m"), sink)
    assert not sink.status
    return fault.value


def slowly(*data: bytes, pause: float) -> Act:
    async def act(writer: asyncio.StreamWriter) -> None:
        for piece in data:
            await pieces(piece)(writer)
            await asyncio.sleep(pause)

    return act


@pytest.mark.parametrize("before", [b"", HINTS])
async def test_a_head_that_trickles_is_hung_up(
    monkeypatch: pytest.MonkeyPatch, before: bytes
) -> None:
    """No pause is longer than a provider may be silent."""
    monkeypatch.setattr(http, "HEAD_TIME", 0.05)
    trickle = slowly(before + HEAD, *[b"X-A: b\r\n"] * 100, pause=0.01)
    async with provided(monkeypatch, trickle) as (provider, _):
        fault = await fault_of(provider)
        assert (fault.reason, "EndlessHead" in fault.message) == ("failed", True)


async def test_what_comes_late_but_whole_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first byte of a head, the body behind it, and the next request's on that connection."""
    monkeypatch.setattr(http, "HEAD_TIME", 0.05)
    act = slowly(b"", HINTS, HINTS, HEAD + SIZE, BODY, pause=0.1)
    async with provided(monkeypatch, act) as (provider, server):
        for _ in range(2):
            sink = RecordingSink()
            await provider.call(chat("m"), sink)
            assert sink.document["choices"]
        assert len(server.talks) == 1


@pytest.mark.parametrize("announced", [16, 17])
async def test_announcements_are_counted_for_each_answer(
    monkeypatch: pytest.MonkeyPatch, announced: int
) -> None:
    async with provided(monkeypatch, pieces(HINTS * announced + HEAD + SIZE + BODY)) as found:
        provider, _ = found
        for _ in range(2):
            if announced > http.ANNOUNCED:
                await fault_of(provider)
            else:
                await provider.call(chat("m"), RecordingSink())


@pytest.mark.parametrize("stream", [False, True])
async def test_a_large_answer_does_not_hold_up_others(
    monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    what = "an event" if stream else "a document"
    async with provided(monkeypatch, ACTS[f"{what} of 16 MiB of brackets"]) as (provider, _):
        sink = RecordingSink()
        calling = asyncio.ensure_future(provider.call(chat("m", stream=stream), sink))
        longest, whole = await longest_turn(calling)
        with pytest.raises(ProviderFault):
            await calling
        assert longest < max(0.5, whole / 3), "read in one go it is 3 s, and nearly all"
