"""Several tenants in one queue: real processes, and the order in which they are served."""

from __future__ import annotations

import asyncio
from statistics import median
from typing import Any

from tests.fabric import PATIENCE, Fabric, Process, ask

SECRETS = {name: f"sk-of-{name}-0123456789abcdef" for name in ("greedy", "polite", "heavy")}
KEYS = "".join(
    f'[[keys]]\nname = "{name}"\naccount = "{name}"\nsecret = "{secret}"\nweight = {weight}\n'
    for (name, secret), weight in zip(SECRETS.items(), (1.0, 1.0, 3.0), strict=True)
)
SLOW = {"echo": {"first_ms": 60}}


class Tenants:
    """What each tenant's requests came to, in the order in which they were answered."""

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric
        self.answered: list[str] = []

    async def ask(self, tenant: str, url: str = "", **body: Any) -> int:
        headers = {"Authorization": f"Bearer {SECRETS[tenant]}"}
        asked = {**ask(f"of {tenant}", **SLOW), **body}
        status, answer, _ = await self.fabric.post(asked, url, **headers)
        self.answered.append(tenant)
        if status == 200:
            assert answer["choices"][0]["message"]["content"] == f"of {tenant}"
        return int(status)

    def many(self, tenant: str, jobs: int, url: str = "") -> list[asyncio.Task[int]]:
        return [asyncio.create_task(self.ask(tenant, url)) for _ in range(jobs)]


async def _fabric(fabric: Fabric, ingresses: int = 1) -> tuple[Tenants, list[Process]]:
    started = [await fabric.ingress(tables=KEYS) for _ in range(ingresses)]
    await fabric.worker(slots=1)
    for ingress in started:
        await fabric.served("echo", url=ingress.url)
    return Tenants(fabric), started


async def queued(fabric: Fabric, jobs: int) -> None:
    """Wait until the stream holds that many at least."""
    bus = await fabric.admin()
    async with asyncio.timeout(PATIENCE):
        while (await bus.api("STREAM.INFO.JOBS"))["state"]["messages"] < jobs:
            await asyncio.sleep(0.01)
    await bus.close()


async def test_one_request_does_not_wait_for_all_of_another_account(fabric: Fabric) -> None:
    tenants, _ = await _fabric(fabric)
    greedy = tenants.many("greedy", 30)
    await queued(fabric, 20)
    assert await tenants.ask("polite") == 200
    ahead = tenants.answered.index("polite")
    assert ahead <= 20, "those that were served while the requests were made, and one more"
    assert await asyncio.gather(*greedy) == [200] * 30
    await fabric.idle()


async def test_slots_are_shared_by_weight(fabric: Fabric) -> None:
    tenants, _ = await _fabric(fabric)
    asked = tenants.many("greedy", 24) + tenants.many("heavy", 24)
    await asyncio.gather(*asked)
    both = tenants.answered[4:28]
    assert 16 <= both.count("heavy") <= 20, both
    await fabric.idle()


async def test_a_full_queue_of_one_is_not_anothers(fabric: Fabric) -> None:
    await fabric.ingress({"jobs.tenant_depth": 5, "jobs.queue_depth": 50}, tables=KEYS)
    await fabric.worker(slots=1)
    await fabric.served("echo")
    tenants = Tenants(fabric)
    greedy = tenants.many("greedy", 12)
    await queued(fabric, 5)
    assert await tenants.ask("polite") == 200
    statuses = await asyncio.gather(*greedy)
    assert sorted(set(statuses)) == [200, 429]


async def test_a_worker_that_is_killed_with_anothers_message_loses_no_job(fabric: Fabric) -> None:
    """Nobody's answer is another's, and all are answered."""
    tenants, _ = await _fabric(fabric)
    doomed = await fabric.worker(slots=2)
    await fabric.slots("echo", 3)
    asked = tenants.many("greedy", 12) + tenants.many("polite", 6) + tenants.many("heavy", 6)
    await doomed.logged("runner.began", skip=2)
    await doomed.kill()
    assert await asyncio.gather(*asked) == [200] * 24
    await fabric.idle()


async def test_several_ingresses_keep_one_order(fabric: Fabric) -> None:
    """The greedy one is at one of them, the polite one at another."""
    tenants, ingresses = await _fabric(fabric, 3)
    greedy = tenants.many("greedy", 40, ingresses[0].url)
    await queued(fabric, 30)
    polite = []
    for _ in range(5):
        before = len(tenants.answered)
        assert await tenants.ask("polite", ingresses[1].url) == 200
        polite.append(tenants.answered.index("polite", before) - before)
    # What ingresses tell each other is believed for a moment: one that stands still is passed over.
    assert median(polite) <= 3, f"each is behind what runs, and one more: {polite}"
    assert await asyncio.gather(*greedy) == [200] * 40
    await fabric.idle()


async def test_shares_follow_the_weights_over_several_ingresses(fabric: Fabric) -> None:
    tenants, ingresses = await _fabric(fabric, 2)
    asked = []
    for ingress in ingresses:
        asked += tenants.many("greedy", 16, ingress.url) + tenants.many("heavy", 16, ingress.url)
    await asyncio.gather(*asked)
    middle = tenants.answered[8:32]
    assert 15 <= middle.count("heavy") <= 21, middle
    await fabric.idle()


async def test_an_ingress_that_is_killed_costs_the_others_nothing(fabric: Fabric) -> None:
    tenants, ingresses = await _fabric(fabric, 3)
    lost = tenants.many("greedy", 20, ingresses[0].url)
    kept = tenants.many("polite", 8, ingresses[1].url) + tenants.many("heavy", 8, ingresses[2].url)
    await queued(fabric, 24)
    await ingresses[0].kill()
    assert await asyncio.gather(*kept) == [200] * 16
    await asyncio.gather(*lost, return_exceptions=True)
    await fabric.idle()
