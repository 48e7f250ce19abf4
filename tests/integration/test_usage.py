"""Usage is read while ingresses write it, as often as somebody likes."""

from __future__ import annotations

import asyncio

from pydantic import SecretStr

from deploy.nats.broker import Broker
from ingress import usage_report
from schemas import bus as buses
from schemas import subjects, topology, usage
from schemas.jetstream import streams
from schemas.settings import Jobs, Nats
from schemas.tally import Question, Tally
from schemas.usage import Served

READS = 200
PATIENCE = 20.0  # an unused reader would stay for 30 s


async def test_it_is_read_whole_while_it_is_written(broker: Broker) -> None:
    """Each message replaces one before it: a reading that counted on that one would fail."""
    user, password = broker.users["ingress"]
    login = Nats(url=broker.url, user=user, password=SecretStr(password))
    bus = await buses.connect(login, "test", f"{subjects.INBOX_INGRESS}.test")
    await streams.ensure(bus, topology.streams(Jobs(), 1))
    written = 0

    async def write() -> None:
        nonlocal written
        while True:
            row = Served("2026-11-29", "acme", "k", "m", "n", written % 50 + 1)
            await bus.store(
                subjects.usage("in-1", written // 50), usage.REPLACING, usage.pack([row])
            )
            written += 1

    writing = asyncio.create_task(write())
    try:
        for _ in range(READS):
            before = written
            found = Tally(Question(("account",)))
            await usage_report.count(bus, found)
            assert before <= found.total()["requests"] <= written + 1
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        async with asyncio.timeout(PATIENCE):
            while (await streams.info(bus, subjects.USAGE_STREAM))["state"]["consumer_count"]:
                await asyncio.sleep(0.01)
    finally:
        writing.cancel()
        await bus.close()
