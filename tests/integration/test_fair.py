"""Several tenants in one queue: real processes, and the order in which they are served."""

from __future__ import annotations

import asyncio
from statistics import median
from typing import Any

from tests.fabric import Fabric, Process, ask, counts
from tests.gate import SHUT

SECRETS = {name: f"sk-of-{name}-0123456789abcdef" for name in ("greedy", "polite", "heavy")}
KEYS = "".join(
    f'[[keys]]\nname = "{name}"\naccount = "{name}"\nsecret = "{secret}"\nweight = {weight}\n'
    for (name, secret), weight in zip(SECRETS.items(), (1.0, 1.0, 3.0), strict=True)
)
PACE = 60.0


class Tenants:
    """What each tenant's requests came to. `pace`: milliseconds that each takes, unless its own
    body says so, or as long as the worker's gate is shut."""

    def __init__(self, fabric: Fabric, pace: float = SHUT) -> None:
        self.fabric = fabric
        self._pace = pace

    async def ask(self, tenant: str, url: str = "", **body: Any) -> int:
        headers = {"Authorization": f"Bearer {SECRETS[tenant]}"}
        asked = {**ask(f"of {tenant}", echo={"first_ms": self._pace}), **body}
        status, answer, _ = await self.fabric.post(asked, url, **headers)
        if status == 200:
            assert answer["choices"][0]["message"]["content"] == f"of {tenant}"
        return int(status)

    def many(self, tenant: str, jobs: int, url: str = "") -> list[asyncio.Task[int]]:
        return [asyncio.create_task(self.ask(tenant, url)) for _ in range(jobs)]


async def order(ingresses: list[Process], worker: Process, jobs: int) -> list[str]:
    """The tenants of all jobs, as the worker began with them: who is answered first is not told by
    who reads its answer first."""
    await counts(ingresses, "request", jobs)
    lines = [line for each in ingresses for line in each.lines if line.get("event") == "request"]
    tenants = {line["job"]: str(line["key"]) for line in lines}
    await counts([worker], "runner.began", jobs)
    return [tenants[line["job"]] for line in worker.lines if line.get("event") == "runner.began"]


async def _fabric(
    fabric: Fabric, ingresses: int = 1, pace: float = SHUT
) -> tuple[Tenants, list[Process], Process]:
    started = [await fabric.ingress(tables=KEYS) for _ in range(ingresses)]
    worker = await fabric.worker(slots=1)
    for ingress in started:
        await fabric.served("echo", url=ingress.url)
    return Tenants(fabric, pace), started, worker


async def test_one_request_does_not_wait_for_all_of_another_account(fabric: Fabric) -> None:
    tenants, ingresses, worker = await _fabric(fabric)
    asked = tenants.many("greedy", 30)
    await fabric.jobs(30)
    asked += tenants.many("polite", 1)
    await fabric.jobs(31)
    worker.open_gate()
    assert await asyncio.gather(*asked) == [200] * 31
    found = await order(ingresses, worker, 31)
    assert found.index("polite") <= 2, "behind what runs, and one more"
    await fabric.idle()


async def test_slots_are_shared_by_weight(fabric: Fabric) -> None:
    tenants, ingresses, worker = await _fabric(fabric)
    asked = tenants.many("greedy", 24) + tenants.many("heavy", 24)
    await fabric.jobs(48)
    worker.open_gate()
    assert await asyncio.gather(*asked) == [200] * 48
    both = (await order(ingresses, worker, 48))[4:28]
    assert 16 <= both.count("heavy") <= 20, both
    await fabric.idle()


async def test_a_full_queue_of_one_is_not_anothers(fabric: Fabric) -> None:
    ingress = await fabric.ingress({"jobs.tenant_depth": 5, "jobs.queue_depth": 50}, tables=KEYS)
    worker = await fabric.worker(slots=1)
    await fabric.served("echo")
    tenants = Tenants(fabric)
    greedy = tenants.many("greedy", 12)
    await ingress.logged("request", status=429)
    polite = asyncio.create_task(tenants.ask("polite"))
    worker.open_gate()
    assert await polite == 200
    statuses = await asyncio.gather(*greedy)
    assert sorted(set(statuses)) == [200, 429]


async def test_a_worker_that_is_killed_with_anothers_message_loses_no_job(fabric: Fabric) -> None:
    """Nobody's answer is another's, and all are answered."""
    tenants, _, _ = await _fabric(fabric, pace=PACE)
    doomed = await fabric.worker(slots=2)
    await fabric.slots("echo", 3)
    asked = tenants.many("greedy", 12) + tenants.many("polite", 6) + tenants.many("heavy", 6)
    await doomed.logged("runner.began", skip=2)
    await doomed.kill()
    assert await asyncio.gather(*asked) == [200] * 24
    await fabric.idle()


async def test_several_ingresses_keep_one_order(fabric: Fabric) -> None:
    """The greedy one is at one of them, the polite one at another."""
    tenants, ingresses, worker = await _fabric(fabric, 3)
    greedy = tenants.many("greedy", 40, ingresses[0].url)
    await fabric.jobs(40)
    began, passed = [], 0
    for number in range(5):
        heard = ingresses[0].count("peers.heard", head="polite")
        [asked] = tenants.many("polite", 1, ingresses[1].url)
        await ingresses[0].logged("peers.heard", head="polite", skip=heard)
        began.append(worker.count("runner.began"))
        while not asked.done() and passed < 40 + number:
            passed += 1
            worker.open_gate(passed)
            await worker.logged("runner.ended", skip=passed - 1)
        assert await asked == 200
    worker.open_gate()
    assert await asyncio.gather(*greedy) == [200] * 40
    found = await order(ingresses, worker, 45)
    at = [place for place, tenant in enumerate(found) if tenant == "polite"]
    polite = [place - before for place, before in zip(at, began, strict=True)]
    # What ingresses tell each other is believed for a moment: one that stands still is passed over.
    assert median(polite) <= 3, f"each is behind what runs, and one more: {polite}"
    await fabric.idle()


async def test_shares_follow_the_weights_over_several_ingresses(fabric: Fabric) -> None:
    """They tell each other who is served, at some pace: only the first job is held."""
    tenants, ingresses, worker = await _fabric(fabric, 2, PACE)
    asked = [asyncio.create_task(tenants.ask("greedy", echo={"first_ms": SHUT}))]
    await worker.logged("runner.began")
    for ingress in ingresses:
        asked += tenants.many("greedy", 16, ingress.url) + tenants.many("heavy", 16, ingress.url)
    await fabric.jobs(65)
    worker.open_gate()
    assert await asyncio.gather(*asked) == [200] * 65
    middle = (await order(ingresses, worker, 65))[8:32]
    assert 15 <= middle.count("heavy") <= 21, middle
    await fabric.idle()


async def test_an_ingress_that_is_killed_costs_the_others_nothing(fabric: Fabric) -> None:
    tenants, ingresses, worker = await _fabric(fabric, 3)
    lost = tenants.many("greedy", 20, ingresses[0].url)
    kept = tenants.many("polite", 8, ingresses[1].url) + tenants.many("heavy", 8, ingresses[2].url)
    await fabric.jobs(36)
    await ingresses[0].kill()
    worker.open_gate()
    assert await asyncio.gather(*kept) == [200] * 16
    await asyncio.gather(*lost, return_exceptions=True)
    await fabric.idle()
