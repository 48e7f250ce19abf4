"""Accounts that share a queue, with OpenAI's client through real ingresses, broker and workers, of
which each kind is killed while all of them wait."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import openai
import pytest_asyncio

from tests.fabric import PATIENCE, Fabric, Line, Process, read_until
from tests.integration.test_fair import KEYS, SECRETS

ENGINE = "echo://?model=echo&slots=2&first_ms=40"
SLOTS = 4
"""Of two workers."""
_numbers = itertools.count()


class Client:
    """One account's client of one ingress, which asks for an answer that nobody else gets."""

    def __init__(self, account: str, ingress: Process) -> None:
        self.account = account
        self._made = openai.AsyncOpenAI(
            base_url=ingress.url + "/v1", api_key=SECRETS[account], max_retries=0, timeout=60
        )

    async def ask(self, **echo: int) -> None:
        """`echo`: what the engine is told of its pace."""
        text = f"{self.account} asks {next(_numbers)}"
        stream = await self._made.chat.completions.create(
            model="echo",
            messages=[{"role": "user", "content": text}],
            stream=True,
            extra_body={"echo": echo},
        )
        got = [chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices]
        assert "".join(got) == text

    async def all(self, jobs: int) -> None:
        await asyncio.gather(*(self.ask() for _ in range(jobs)))

    async def keep(self, jobs: int, **echo: int) -> None:
        """Have so many in the queue, for ever."""

        async def ask() -> None:
            while True:
                await self.ask(**echo)

        await asyncio.gather(*(ask() for _ in range(jobs)))

    async def close(self) -> None:
        await self._made.close()


class House:
    """Three ingresses, each with a client of each account, and two workers of two slots."""

    def __init__(self, fabric: Fabric, ingresses: list[Process], workers: list[Process]) -> None:
        self.fabric = fabric
        self.ingresses = ingresses
        self.workers = workers
        self.clients = [[Client(account, each) for account in SECRETS] for each in ingresses]

    def asked(self, at: int, jobs: int) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(client.all(jobs)) for client in self.clients[at]]


@pytest_asyncio.fixture
async def house(fabric: Fabric) -> AsyncIterator[House]:
    ingresses = [await fabric.ingress(tables=KEYS) for _ in range(3)]
    workers = [await fabric.worker(ENGINE) for _ in range(2)]
    for each in ingresses:
        await fabric.served("echo", url=each.url)
    made = House(fabric, ingresses, workers)
    yield made
    for client in itertools.chain.from_iterable(made.clients):
        await client.close()


class Since:
    """What processes logged after a moment. All of them go by one machine's clock."""

    def __init__(self, *processes: Process) -> None:
        self.moment = datetime.now(UTC)
        self._read = {process: len(process.lines) for process in processes}

    def lines(self, process: Process, *events: str) -> list[tuple[datetime, Line]]:
        found = (line for line in process.lines[self._read[process] :] if line["event"] in events)
        timed = ((datetime.fromisoformat(line["timestamp"]), line) for line in found)
        return [(moment, line) for moment, line in timed if moment > self.moment]

    async def read(self, event: str) -> None:
        """Wait for a line of now of each process: all that it logged before is read then."""
        now = Since(*self._read)
        await read_until(lambda: all(now.lines(each, event) for each in self._read), [*self._read])


async def test_a_polite_account_is_served_while_others_have_a_hundred_in_the_queue(
    house: House,
) -> None:
    """At another ingress than theirs, again and again: theirs offers it a slot when its turn has
    come. What begins from when theirs has heard of its request until that offer is what was granted
    before, once for each slot, and what is due to the others for its last turn: by their weights 1
    and 3, and one more of each that is as early. So it holds however slow a machine is; when
    answers arrive says less, as that is about clients, too."""
    theirs, polite = house.ingresses[0], house.clients[1][1]
    others = house.clients[0][0], house.clients[0][2]
    crowd = [asyncio.create_task(each.keep(50, first_ms=800)) for each in others]
    async with asyncio.timeout(PATIENCE):
        while await house.fabric.depth() < 100 - SLOTS:
            await asyncio.sleep(0.01)
    for _ in range(4):
        since, at_theirs = Since(*house.workers), Since(theirs)
        await polite.ask()
        await since.read("runner.began")
        await at_theirs.read("request")
        told = at_theirs.lines(theirs, "peers.heard", "peers.offered")
        heard = next(at for at, line in told if line["head"] == "polite")
        offered = next(at for at, line in told if line["event"] == "peers.offered" and at > heard)
        began = [at for each in house.workers for at, _ in since.lines(each, "runner.began")]
        assert sum(heard < at < offered for at in began) <= SLOTS + (1 + 1) + (3 + 1)
    for each in crowd:  # their clients leave, and so do their jobs
        each.cancel()
    await asyncio.gather(*crowd, return_exceptions=True)
    await house.fabric.idle()


async def test_a_killed_worker_costs_nobody_an_answer(house: House) -> None:
    asked = [task for at in range(3) for task in house.asked(at, 8)]
    await house.workers[0].logged("runner.began", skip=6)
    await house.workers[0].kill()
    await asyncio.gather(*asked)
    await house.fabric.idle()


async def test_a_killed_broker_costs_nobody_an_answer(house: House) -> None:
    asked = [task for at in range(3) for task in house.asked(at, 8)]
    await house.workers[0].logged("runner.began", skip=6)
    await asyncio.to_thread(house.fabric.broker.kill)
    await asyncio.to_thread(house.fabric.broker.restart)
    await asyncio.gather(*asked)
    await house.fabric.idle()


async def test_a_killed_ingress_costs_the_clients_of_others_nothing(house: House) -> None:
    doomed, kept = house.asked(0, 12), house.asked(1, 8) + house.asked(2, 8)
    await house.workers[0].logged("runner.began", skip=6)
    await house.ingresses[0].kill()
    await asyncio.gather(*kept)
    ended = await asyncio.gather(*doomed, return_exceptions=True)
    assert all(isinstance(each, openai.APIConnectionError | None) for each in ended), ended
    await house.fabric.idle()


async def test_an_ingress_that_stands_still_holds_up_the_others_for_a_moment(house: House) -> None:
    """It is offered slots, and does not answer; then it wakes up, and its clients are served."""
    asked = [task for at in range(3) for task in house.asked(at, 8)]
    await house.workers[0].logged("runner.began", skip=6)
    house.ingresses[0].signal(signal.SIGSTOP)
    others = asked[3:]
    await asyncio.gather(*others)
    house.ingresses[0].signal(signal.SIGCONT)
    await asyncio.gather(*asked)
    await house.fabric.idle()
