"""`python -m tests.power_cut [ROUNDS] [SEED] [SYNC]`: a line for each cut, and what it cost."""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

from pydantic import SecretStr

from deploy.nats import binary
from deploy.nats import broker as brokers
from deploy.nats.broker import Broker
from deploy.nats.config import SYNC
from fallback.credits import witness
from fallback.credits.faults import LedgerError
from fallback.credits.ledger import Ledger
from schemas import bus as buses
from schemas import log, subjects
from schemas.bus import Bus
from schemas.jetstream import streams
from schemas.settings import Log, Nats
from tests.fabric import Fabric, ask, fabric
from tests.power_cut.synced import Tracer

CLIENTS = 8
ACCOUNT = "a"


class Clients:
    """Ask until told to stop, half of them for streams, and check each answer."""

    def __init__(self, made: Fabric) -> None:
        self.right = self.wrong = 0
        self._made = made
        self._enough = False
        self._tasks = [asyncio.create_task(self._ask(number)) for number in range(CLIENTS)]

    async def _ask(self, number: int) -> None:
        while not self._enough:
            words = f"client {number} asks {self.right} words"
            if number % 2:
                good = await self._made.stream(ask(words)) == (200, words, True)
            else:
                status, body, _ = await self._made.post(ask(words))
                good = status == 200 and body["choices"][0]["message"]["content"] == words
            self.right += good
            self.wrong += not good

    async def end(self) -> None:
        self._enough = True
        await asyncio.gather(*self._tasks)


class Granter:
    """Grants one unit after the other; `confirmed`: when each was, by its number."""

    def __init__(self, ledger: Ledger) -> None:
        self.confirmed: list[float] = []
        self.told = ""
        self._ledger = ledger

    async def run(self) -> None:
        while not self.told:
            try:
                await self._ledger.grant(ACCOUNT, 1)
            except LedgerError as fault:
                self.told = str(fault)
            else:
                self.confirmed.append(time.monotonic())
            await asyncio.sleep(0.01)


async def credits_bus(broker: Broker) -> Bus:
    user, password = broker.users["ledger"]
    login = Nats(url=broker.url, user=user, password=SecretStr(password))
    return await buses.connect(login, "power-cut", "_L.cut")


async def told_to_others(broker: Broker) -> bool:
    """Whether a process that comes later knows of the loss."""
    bus = await credits_bus(broker)
    try:
        await witness.check(bus, 1)
    except witness.JournalCut:
        return True
    finally:
        await bus.close()
    return False


async def once(dice: random.Random, sync: str, home: Path) -> str:
    """One cut, under load. Ingress, worker and the one who grants are on other machines."""
    store = home / "broker"
    tracer = Tracer(binary.find(), home, store)
    with (
        mock.patch.object(binary, "find", return_value=tracer.program),
        brokers.start(store, 0, 0, sync=sync, ready_within=60) as broker,
    ):
        async with fabric(broker, home) as made:
            ingress = await made.ingress({"ingress.broker_wait": 30.0})
            await made.worker("echo://?model=echo&slots=2&token_ms=20")
            await made.served("echo")
            bus = await credits_bus(broker)
            await witness.check(bus, 1)
            ledger = Ledger(bus)
            await ledger.open()
            assert (await made.post(ask("first")))[0] == 200
            await asyncio.to_thread(tracer.synced.settle)
            granter, clients = Granter(ledger), Clients(made)
            granting = asyncio.create_task(granter.run())
            await asyncio.sleep(dice.uniform(2, 5))
            cut = time.monotonic()
            await asyncio.to_thread(broker.kill)
            done = len(granter.confirmed)
            lost = await asyncio.to_thread(tracer.cut)
            await asyncio.to_thread(broker.restart)
            await asyncio.sleep(5)
            await clients.end()
            state = (await streams.info(bus, subjects.CREDITS_STREAM))["state"]
            ends = int(state["last_seq"])
            granting.cancel()
            left = f"{done - ends} of {done} entries" if ends < done else "no entry"
            oldest = (
                f", the oldest {cut - granter.confirmed[ends]:.2f} s old" if ends < done else ""
            )
            told = "told" if granter.told and await told_to_others(broker) else "not told"
            await ledger.close()
            await bus.close()
            restored = ingress.count("dispatch.restored")
            return (
                f"{lost} bytes; credits: {left}{oldest}, {told}; jobs published again: {restored}; "
                f"answers: {clients.right} right, {clients.wrong} wrong"
            )


async def main(rounds: int = 5, seed: int = 1, sync: str = SYNC) -> None:
    dice = random.Random(seed)
    for number in range(rounds):
        with tempfile.TemporaryDirectory(prefix="headrace-power-cut-") as home:
            print(f"{number}: sync {sync}: {await once(dice, sync, Path(home))}", flush=True)


if __name__ == "__main__":
    log.configure(Log(level="error"), "power-cut")
    given = dict(zip(("rounds", "seed"), map(int, sys.argv[1:3]), strict=False))
    asyncio.run(main(**given, sync=sys.argv[3] if len(sys.argv) > 3 else SYNC))
