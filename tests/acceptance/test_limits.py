"""Limits of keys with nothing simulated: three ingresses, and every admission in their logs."""

from __future__ import annotations

import asyncio
import statistics
from collections import deque
from collections.abc import Sequence
from typing import Any

import anthropic
import openai
import pytest

from ingress.limits.clock import steady
from tests.bench.limits import most_at_once, most_in_window
from tests.fabric import PATIENCE, Fabric, Process, ask, read_until, table

SECRET = "sk-limited-0123456789abcdef"
HEADERS = {"Authorization": f"Bearer {SECRET}"}
INGRESSES = 3


async def started(fabric: Fabric, window: float, engine: str, **limits: Any) -> list[Process]:
    """Three ingresses that know a key with these limits, and a worker."""
    key = table("[keys]", {"name": "small", "account": "few", "secret": SECRET})
    key += table("keys.limits", limits)
    config = {"ingress.limit_window": window}
    made = [await fabric.ingress(config, tables=key) for _ in range(INGRESSES)]
    await fabric.worker(engine)
    for each in made:
        await fabric.served("echo", url=each.url)
    return made


async def offered(
    fabric: Fabric, to: Sequence[Process], rate: float, seconds: float
) -> list[tuple[float, int]]:
    """Send so many requests a second to each of them in turn; returns when each was answered, which
    is soon after it was decided about, however busy the machine is, and its status."""
    begun, sent, answered = steady(), 0, list[tuple[float, int]]()

    async def one(url: str) -> None:
        status = (await fabric.post(ask("hi"), url, **HEADERS))[0]
        answered.append((steady(), status))

    async with asyncio.TaskGroup() as group:
        while (now := steady()) < begun + seconds:
            while sent < (now - begun) * rate:
                group.create_task(one(to[sent % len(to)].url))
                sent += 1
            await asyncio.sleep(0.5 / rate)
    return answered


def logged(processes: Sequence[Process], event: str) -> list[float]:
    return [line["at"] for each in processes for line in each.lines if line.get("event") == event]


def ideal(asked: Sequence[float], most: int, window: float) -> int:
    """How many requests one process alone admits that it decides about at these moments."""
    taken, count = deque[float](), 0
    for moment in asked:
        while taken and moment - taken[0] > window:
            taken.popleft()
        if len(taken) < most:
            taken.append(moment)
            count += 1
    return count


def ideal_holders(
    refused: Sequence[float], pairs: Sequence[tuple[float, float]], places: int
) -> int:
    """How many requests one process alone admits of those that were refused or admitted at these
    moments, if each has its place as long as they have in the middle."""
    held = statistics.median(end - begin for begin, end in pairs)
    ends, count = list[float](), 0
    for moment in sorted([*refused, *(begin for begin, _ in pairs)]):
        ends = [end for end in ends if end > moment]
        if len(ends) < places:
            ends.append(moment + held)
            count += 1
    return count


@pytest.mark.parametrize(
    ("most", "window", "rate", "seconds"), [(3, 4.0, 60, 13), (2000, 10.0, 260, 14)]
)
async def test_no_window_has_more_than_the_limit(
    fabric: Fabric, most: int, window: float, rate: float, seconds: float
) -> None:
    running = await started(fabric, window, "echo://?model=echo&slots=64", requests=most)
    answered = await offered(fabric, running, rate, seconds)
    await settled(running)
    admitted = logged(running, "limits.admitted")
    assert most_in_window(admitted, window) == most
    assert len(admitted) >= 0.9 * ideal([moment for moment, _ in answered], most, window)
    assert fabric.tracebacks() == []


@pytest.mark.parametrize(("places", "used"), [(3, 0.8), (10, 0.9)])
async def test_no_moment_has_more_than_the_limit(fabric: Fabric, places: int, used: float) -> None:
    running = await started(
        fabric, 60.0, "echo://?model=echo&slots=32&token_ms=200", concurrent=places
    )
    answered = await offered(fabric, running, places * 20, 6)
    await settled(running)
    pairs = [pair for each in running for pair in spans(each)]
    assert most_at_once(pairs) == places
    refused = [moment for moment, status in answered if status == 429]
    assert len(pairs) >= used * ideal_holders(refused, pairs, places)
    assert fabric.tracebacks() == []


async def settled(running: Sequence[Process]) -> None:
    """Wait until all that was admitted is over, also where that is written down."""
    for each in running:
        await each.caught_up()
    await read_until(
        lambda: len(logged(running, "limits.admitted")) == len(logged(running, "limits.settled")),
        running,
    )


def spans(process: Process) -> list[tuple[float, float]]:
    """When each request of an ingress was admitted and over. Which is whose does not matter for
    how many there are at once."""
    begins, ends = (sorted(logged([process], f"limits.{word}")) for word in ("admitted", "settled"))
    assert len(begins) == len(ends)
    return list(zip(begins, ends, strict=True))


async def test_an_ingress_that_is_killed_gives_its_places_back(fabric: Fabric) -> None:
    running = await started(fabric, 60.0, "echo://?model=echo&slots=32&token_ms=500", concurrent=3)
    words = " ".join(["word"] * 100)
    streams = [asyncio.create_task(held(fabric, running[0].url, words)) for _ in range(3)]
    for _ in range(3):
        await running[0].logged("limits.admitted", skip=_)
    status, _, _ = await fabric.post(ask("hi"), running[1].url, **HEADERS)
    assert status == 429
    await running[0].kill()
    killed = steady()
    others = running[1:]
    async with asyncio.timeout(PATIENCE):
        while (await fabric.post(ask("hi"), others[0].url, **HEADERS))[0] != 200:
            await asyncio.sleep(0.02)
    first = min(logged(others, "limits.admitted"))
    assert 0 < first - killed < 30, "their window is a minute"
    await asyncio.gather(*streams, return_exceptions=True)
    assert fabric.tracebacks() == []


async def held(fabric: Fabric, url: str, words: str) -> None:
    async with fabric.session.post(
        url + "/v1/chat/completions", json=ask(words, stream=True), headers=HEADERS
    ) as answer:
        await answer.read()


async def test_openais_client_is_told(fabric: Fabric) -> None:
    url = (await started(fabric, 60.0, "echo://?model=echo", requests=1, tokens=50_000))[0].url
    async with openai.AsyncOpenAI(
        base_url=url + "/v1", api_key=SECRET, max_retries=0, timeout=PATIENCE
    ) as client:
        create = client.chat.completions.with_raw_response.create
        answer = await create(model="echo", messages=[{"role": "user", "content": "hi"}])
        assert answer.headers["x-ratelimit-limit-requests"] == "1"
        assert answer.headers["x-ratelimit-remaining-requests"] == "0"
        assert 49_900 < int(answer.headers["x-ratelimit-remaining-tokens"]) < 50_000
        with pytest.raises(openai.RateLimitError) as fault:
            await create(model="echo", messages=[{"role": "user", "content": "hi"}])
        assert fault.value.code == "rate_limit_exceeded"
        assert int(fault.value.response.headers["retry-after"]) > 50


async def test_anthropics_client_is_told(fabric: Fabric) -> None:
    url = (await started(fabric, 60.0, "echo://?model=echo", requests=1))[0].url
    async with anthropic.AsyncAnthropic(
        base_url=url, api_key=SECRET, max_retries=0, timeout=PATIENCE
    ) as client:
        create = client.messages.with_raw_response.create
        said: Any = {"role": "user", "content": "hi"}
        answer = await create(model="echo", max_tokens=5, messages=[said])
        assert answer.headers["anthropic-ratelimit-requests-remaining"] == "0"
        with pytest.raises(anthropic.RateLimitError) as fault:
            await create(model="echo", max_tokens=5, messages=[said])
        assert fault.value.response.headers["anthropic-ratelimit-requests-limit"] == "1"
