"""Two ingresses, three workers, 2,000 requests: every one answered, every token right."""

from __future__ import annotations

import asyncio

from tests.fabric import Fabric, ask, counts

REQUESTS = 2000
AT_ONCE = 64


async def test_two_thousand_requests_over_two_ingresses_and_three_workers(fabric: Fabric) -> None:
    urls = [(await fabric.ingress()).url, (await fabric.ingress()).url]
    workers = [await fabric.worker("echo://?model=echo&slots=8") for _ in range(3)]
    for url in urls:
        await fabric.served("echo", url=url)
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        words = " ".join(f"r{number}w{i}" for i in range(number % 13 + 1))
        url = urls[number % 2]
        async with gate:
            if number % 3:
                status, text, done = await fabric.stream(ask(words), url=url)
                assert (status, text, done) == (200, words, True)
            else:
                status, body, _ = await fabric.post(ask(words), url=url)
                assert (status, body["choices"][0]["message"]["content"]) == (200, words)

    await asyncio.gather(*(one(number) for number in range(REQUESTS)))
    shares = await counts(workers, "runner.began", REQUESTS)
    assert sum(shares) == REQUESTS, "none was run twice"
    assert min(shares) > REQUESTS / 10, f"the load spreads: {shares}"
    await fabric.idle()
