"""The next turn of a conversation goes where its cache is: two nodes, real processes, a broker."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from deploy.nats import broker as brokers
from schemas import nodes, subjects
from schemas.bus import Message
from tests.fabric import PATIENCE, Fabric, Process, ask, counts, fabric, read_until

pytestmark = pytest.mark.asyncio(loop_scope="function")

NODES = "a", "b"
SLOTS = 2
DOCUMENT = "All that is said here is said of the birds of one number. " * 60


class House(NamedTuple):
    fabric: Fabric
    ingress: Process
    workers: dict[str, Process]

    async def turn(self, talk: Talk, url: str = "", **fields: Any) -> str:
        """The node that answers the next turn."""
        talk.messages.append({"role": "user", "content": f"turn {len(talk.messages)}"})
        body = {"model": "echo", "messages": talk.messages, **fields}
        status, found, headers = await self.fabric.post(body, url)
        assert status == 200, found
        talk.messages.append(found["choices"][0]["message"])
        return str(headers["x-headrace-served-by"].removeprefix("node:"))

    async def outcomes(self, url: str = "") -> dict[str, int]:
        """What came of the turns so far. A worker that is kept from its turn for long does not take
        a job in time: those turns are `declined`, whoever answered them."""
        async with self.fabric.session.get((url or self.ingress.url) + "/metrics") as answer:
            lines = (await answer.text()).splitlines()
        found = {"declined": 0, "hit": 0, "miss": 0, "elsewhere": 0, "forgotten": 0}
        for line in lines:
            if line.startswith("headrace_affinity_total{"):
                name = line.partition('outcome="')[2].partition('"')[0]
                found[name] = round(float(line.rpartition(" ")[2]))
            elif line.startswith("headrace_affinity_declined_total{"):
                found["declined"] = round(float(line.rpartition(" ")[2]))
        return found

    async def full(self, node: str) -> list[asyncio.Task[Any]]:
        """All slots of a node have long jobs, which others asked for."""
        before = self.workers[node].count("runner.began")
        long: dict[str, Any] = {"model": "echo", "messages": [{"role": "user", "content": "x"}]}
        long["echo"] = {"first_ms": 60_000}
        asked = [
            asyncio.create_task(self.fabric.post(long, **{"X-Headrace-Node": node}))
            for _ in range(SLOTS)
        ]
        await self.workers[node].logged("runner.began", skip=before + SLOTS - 1)
        return asked


class Talk:
    def __init__(self, number: int) -> None:
        self.messages: list[Any] = [{"role": "system", "content": f"Number {number}. {DOCUMENT}"}]


def assert_met(found: dict[str, int], talks: int, turns: int) -> None:
    """The turns after the first ones have met their caches."""
    assert found["miss"] == talks, found
    assert found["hit"] + found["elsewhere"] == turns, found
    assert found["elsewhere"] <= found["declined"], found


async def start(made: Fabric, **settings: Any) -> House:
    ingress = await made.ingress({f"ingress.{name}": value for name, value in settings.items()})
    url = f"echo://?model=echo&slots={SLOTS}"
    workers = {node: await made.worker(url, {"worker.node": node}) for node in NODES}
    await made.slots("echo", SLOTS * len(NODES))
    return House(made, ingress, workers)


@pytest_asyncio.fixture(loop_scope="function")
async def made(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fabric]:
    home = tmp_path_factory.mktemp("fabric")
    with brokers.start(home / "broker", 0, 0) as broker:
        async with fabric(broker, home) as found:
            yield found
            assert found.tracebacks() == []


async def test_the_next_turn_goes_to_the_worker_that_had_the_turn_before(made: Fabric) -> None:
    house = await start(made)
    talks = [Talk(number) for number in range(6)]
    for _ in range(4):
        for talk in talks:
            await house.turn(talk)
    assert_met(await house.outcomes(), talks=6, turns=18)


async def test_of_the_engines_of_one_process_the_one_with_the_cache_has_the_job(
    made: Fabric,
) -> None:
    ingress = await made.ingress()
    engine = '[[engines]]\nname = "e{}"\nkind = "echo"\nurl = "echo://?model=echo&slots=2"\n'
    worker = await made.crew(engine.format(1) + engine.format(2), {"worker.node": "a"})
    await made.slots("echo", 4)
    house = House(made, ingress, {"a": worker})
    talks = [Talk(number) for number in range(4)]
    for _ in range(4):
        assert {await house.turn(talk) for talk in talks} == {"a"}
    assert_met(await house.outcomes(), talks=4, turns=12)


async def test_without_the_setting_nothing_is_looked_at(made: Fabric) -> None:
    house = await start(made, affinity=False)
    talk = Talk(1)
    for _ in range(4):
        await house.turn(talk)
    assert not any((await house.outcomes()).values())


async def test_where_no_slot_is_free_the_turn_goes_elsewhere(made: Fabric) -> None:
    house = await start(made)
    talk = Talk(1)
    node = await house.turn(talk)
    asked = await house.full(node)
    other = await house.turn(talk)
    assert other != node
    for each in asked:
        each.cancel()
    await made.idle()
    assert await house.turn(talk) in NODES


async def measured(made: Fabric, node: str) -> None:
    """Have a node's worker find out that its engine takes 14 ms a token to read a prompt."""
    heard: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def hear(message: Message) -> None:
        card = nodes.heard(message.subject, message.data)
        if card.node == node and any(each.prompt_us for each in card.models) and not heard.done():
            heard.set_result(None)

    bus = await made.admin()
    try:
        await bus.subscribe(subjects.ALL_CARDS, hear)
        body = ask("one two three four five six seven eight nine ten " * 7)
        body |= {"echo": {"first_ms": 1000, "token_ms": 1}}
        status, _, done = await made.stream(body, "", None, **{"X-Headrace-Node": node})
        assert (status, done) == (200, True)
        await heard
    finally:
        await bus.close()


class Waiting(NamedTuple):
    """A turn that waits at the node of its cache, whose slots have the jobs `asked`. `kept`: what
    its worker says of that."""

    house: House
    node: str
    asked: list[asyncio.Task[Any]]
    turn: asyncio.Task[str]
    kept: dict[str, Any]


async def waiting(made: Fabric) -> Waiting:
    house = await start(made, affinity_wait=20.0)
    talk = Talk(1)
    node = await house.turn(talk)
    await measured(made, node)
    asked = await house.full(node)
    turn = asyncio.create_task(house.turn(talk))
    return Waiting(house, node, asked, turn, await house.workers[node].logged("pinned.kept"))


async def test_a_slot_is_waited_for_if_reading_anew_takes_longer(made: Fabric) -> None:
    house, node, asked, turn, kept = await waiting(made)
    assert 2 < kept["seconds"] <= 20, "half of what its prompt takes"
    asked[0].cancel()
    assert await turn == node
    assert (await house.outcomes())["declined"] == 0
    asked[1].cancel()
    await made.idle()


async def test_who_waits_for_the_slot_of_a_worker_that_dies_goes_elsewhere(made: Fabric) -> None:
    house, node, asked, turn, _ = await waiting(made)
    await house.workers[node].kill()
    assert await turn != node
    for each in asked:
        each.cancel()


async def test_a_conversation_whose_worker_died_goes_on_with_another(made: Fabric) -> None:
    house = await start(made)
    talk = Talk(1)
    node = await house.turn(talk)
    asked = asyncio.create_task(house.turn(talk, echo={"first_ms": 3000}))
    began = await counts([house.workers[each] for each in NODES], "runner.began", 2)
    if began[NODES.index(node)] == 1:  # it was kept from its turn
        (node,) = {*NODES} - {node}
    await house.workers[node].kill()
    (other,) = {*NODES} - {node}
    assert await asked == other
    assert await house.turn(talk) == other


async def test_a_worker_that_stands_still_has_a_turn_for_a_moment_alone(made: Fabric) -> None:
    """Its card says that a slot is free, and it does not take the job."""
    house = await start(made)
    talk = Talk(1)
    node = await house.turn(talk)
    house.workers[node].signal(signal.SIGSTOP)
    (other,) = {*NODES} - {node}
    assert await house.turn(talk) == other
    assert (await house.outcomes())["declined"] == 1


async def test_an_ingress_tells_others_who_has_what(made: Fabric) -> None:
    house = await start(made)
    second = await made.ingress()
    url = f"{second.url}/v1/models/echo"
    async with asyncio.timeout(PATIENCE):
        slots = 0
        while slots < SLOTS * len(NODES):
            async with made.session.get(url, headers=made.headers) as answer:
                slots = (await answer.json()).get("headrace", {}).get("slots", 0)
    talks = [Talk(number) for number in range(6)]
    for talk in talks:
        await house.turn(talk)
    await read_until(lambda: _prompts(second) >= len(talks), [second])
    for talk in talks:
        await house.turn(talk, second.url)
    assert_met(await house.outcomes(second.url), talks=0, turns=6)


def _prompts(ingress: Process) -> int:
    """Of how many prompts it has heard from others."""
    heard = [line for line in ingress.lines if line.get("event") == "affine.heard"]
    return sum(line["prompts"] for line in heard)
