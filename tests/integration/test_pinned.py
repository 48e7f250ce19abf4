"""Requests for one node, or for those with labels: three nodes, real processes, a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from deploy.nats import broker as brokers
from tests.fabric import KEY, PATIENCE, Fabric, Process, ask, fabric
from tests.gate import SHUT

pytestmark = pytest.mark.asyncio(loop_scope="module")

BOUND, BATCH, READER = (f"sk-of-{name}-0123456789abcdef" for name in ("bound", "batch", "reader"))
KEYS = f"""
[[keys]]
name = "bound"
account = "bound"
secret = "{BOUND}"
nodes = ["gpu-*"]

[[keys]]
name = "batch"
account = "tests"
secret = "{BATCH}"
lane = "b"

[[keys]]
name = "reader"
account = "tests"
secret = "{READER}"
scopes = ["usage:read"]
"""
NODES: dict[str, tuple[str, dict[str, str]]] = {
    "gpu-1": ("echo", {"gpu": "4090", "zone": "home"}),
    "gpu-2": ("echo", {"gpu": "3090", "zone": "home"}),
    "cpu-1": ("echo,small", {"zone": "away"}),
}


class House(NamedTuple):
    fabric: Fabric
    ingress: Process
    workers: dict[str, Process]

    async def ask(
        self, node: str = "", text: str = "hello", key: str = KEY, /, **body: Any
    ) -> tuple[int, str, Any]:
        """(status, who served it or the error's code, the error)."""
        said = {"X-Headrace-Node": node} if node else {}
        status, found, headers = await self.fabric.post(
            ask(text, **body), **said, Authorization=f"Bearer {key}"
        )
        if status != 200:
            return status, found["error"]["code"], found["error"]
        return status, headers["x-headrace-served-by"].removeprefix("node:"), None

    async def start(self, node: str) -> None:
        models, labels = NODES[node]
        more = {"worker.node": node, "worker.labels": labels}
        url = f"echo://?model={models}&slots=1"
        self.workers[node] = await self.fabric.worker(url, more)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    home = tmp_path_factory.mktemp("fabric")
    with brokers.start(home / "broker", 0, 0) as broker:
        async with fabric(broker, home) as made:
            ingress = await made.ingress(tables=KEYS)
            found = House(made, ingress, {})
            for node in NODES:
                await found.start(node)
            await made.slots("echo", 3)
            while (await found.ask("nobody"))[0] != 404:  # it began just now, and says so
                await asyncio.sleep(0.05)
            yield found


async def test_a_request_goes_to_the_node_that_it_names(house: House) -> None:
    asked = [node for node in NODES for _ in range(6)]
    found = await asyncio.gather(*(house.ask(node) for node in asked))
    assert [(status, node) for status, node, _ in found] == [(200, node) for node in asked]


async def test_the_other_header_means_the_same(house: House) -> None:
    status, _, headers = await house.fabric.post(ask("hello"), **{"X-WAI-Node": "gpu-2"})
    assert (status, headers["x-headrace-served-by"]) == (200, "node:gpu-2")
    both = {"X-WAI-Node": "gpu-2", "X-Headrace-Node": "gpu-1"}
    status, found, _ = await house.fabric.post(ask("hello"), **both)
    assert (status, found["error"]["code"]) == (400, "invalid_request")


async def test_labels_choose_a_node(house: House) -> None:
    assert (await house.ask("gpu=4090"))[:2] == (200, "gpu-1")
    assert (await house.ask("zone=home,gpu=3090"))[:2] == (200, "gpu-2")


async def test_of_several_nodes_the_free_ones_are_taken(house: House) -> None:
    """One of them may look busy at first, as a job of it just ended: so it is looked at again.
    Neither job ends before both have begun."""
    workers = [house.workers[node] for node in ("gpu-1", "gpu-2")]
    before = [worker.count("runner.began") for worker in workers]
    slow = {"echo": {"first_ms": SHUT}}
    asked = [asyncio.create_task(house.ask("zone=home", **slow)) for _ in range(2)]
    for worker, count in zip(workers, before, strict=True):
        await worker.logged("runner.began", skip=count)
    for worker in workers:
        worker.open_gate()
    found = await asyncio.gather(*asked)
    assert sorted(node for _, node, _ in found) == ["gpu-1", "gpu-2"]


async def test_a_job_moves_to_another_node_that_could_take_it(house: House) -> None:
    """Its node is busy for long, as others asked for it; the other has become free meanwhile."""
    long, short = {"echo": {"first_ms": 30_000}}, {"echo": {"first_ms": 300}}
    before = {node: house.workers[node].count("runner.began") for node in ("gpu-1", "gpu-2")}
    began = [
        asyncio.create_task(house.ask("gpu-1", "long", **long)),
        asyncio.create_task(house.ask("gpu-2", "short", **short)),
    ]
    # Both have their job before others are asked for.
    await asyncio.gather(
        *(house.workers[node].logged("runner.began", skip=count) for node, count in before.items())
    )
    asked = [asyncio.create_task(house.ask("zone=home", str(number))) for number in range(4)]
    found = await asyncio.gather(*asked)
    assert {status for status, _, _ in found} == {200}
    assert [node for _, node, _ in found] == ["gpu-2"] * 4
    assert not began[0].done()
    began[0].cancel()
    await house.fabric.idle()


async def test_what_there_is_not_is_told(house: House) -> None:
    status, code, error = await house.ask("gpu-9")
    assert (status, code) == (404, "node_not_found")
    assert "Known nodes: cpu-1, gpu-1, gpu-2" in error["message"]
    status, code, error = await house.ask("gpu=5090")
    assert (status, code) == (404, "node_not_found")
    status, code, error = await house.ask("gpu-1", model="small")
    assert (status, code) == (404, "model_not_found")
    assert "'gpu-1' does not serve 'small'. It serves: echo." in error["message"]


async def test_a_key_is_bound_to_nodes(house: House) -> None:
    found = await asyncio.gather(*(house.ask("", "hello", BOUND) for _ in range(8)))
    assert {node for _, node, _ in found} <= {"gpu-1", "gpu-2"}
    assert (await house.ask("gpu=3090", "hello", BOUND))[:2] == (200, "gpu-2")
    status, code, _ = await house.ask("cpu-1", "hello", BOUND)
    assert (status, code) == (403, "insufficient_scope")
    status, code, _ = await house.ask("zone=away", "hello", BOUND)
    assert (status, code) == (404, "node_not_found")
    status, code, _ = await house.ask("", "hello", BOUND, model="small")
    assert (status, code) == (404, "model_not_found")
    url = house.fabric.url + "/v1/models"
    async with house.fabric.session.get(url, headers={"Authorization": f"Bearer {BOUND}"}) as page:
        assert [each["id"] for each in (await page.json())["data"]] == ["echo"]


async def test_single_nodes_have_no_batch_lane(house: House) -> None:
    status, code, _ = await house.ask("gpu-1", "hello", BATCH)
    assert (status, code) == (403, "insufficient_scope")
    said = {"X-Headrace-Node": "gpu-1"}
    status, found, headers = await house.fabric.post(ask("hello", service_tier="flex"), **said)
    assert (status, found.get("service_tier")) == (200, None)
    assert "service_tier has no effect" in headers["x-headrace-warning"]


async def test_pinned_jobs_and_others_take_turns(house: House) -> None:
    """Neither queue waits for the other's end."""
    slow, ended = {"echo": {"first_ms": 60}}, list[str]()

    async def one(node: str) -> None:
        assert (await house.ask(node, "turn", **slow))[0] == 200
        ended.append("pinned" if node else "any")

    await asyncio.gather(*(one("cpu-1") for _ in range(10)), *(one("") for _ in range(30)))
    assert "any" in ended[:12]
    assert "pinned" in ended[:12]
    assert ended.count("pinned") == 10


async def test_several_ingresses_send_to_one_node(house: House) -> None:
    """They keep one order in its lane, as in those of all nodes."""
    other = await house.fabric.ingress(tables=KEYS)
    body, said = ask("both", echo={"first_ms": 20}), {"X-Headrace-Node": "gpu-1"}
    async with asyncio.timeout(PATIENCE):
        while (await house.fabric.post(body, other.url, **said))[0] != 200:
            await asyncio.sleep(0.05)
    urls = [house.ingress.url, other.url] * 10
    found = await asyncio.gather(*(house.fabric.post(body, url, **said) for url in urls))
    assert {(status, told["x-headrace-served-by"]) for status, _, told in found} == {
        (200, "node:gpu-1")
    }
    await house.fabric.idle()
    assert await other.stop() == 0


async def test_who_asks_for_the_queue_is_told_of_a_nodes(house: House) -> None:
    began = house.workers["gpu-1"].count("runner.began")
    slow = {"echo": {"first_ms": 30_000}}
    asked = [asyncio.create_task(house.ask("gpu-1", "waits", **slow)) for _ in range(2)]
    await house.workers["gpu-1"].logged("runner.began", skip=began)
    url, headers = house.fabric.url + "/v1/queue", {"Authorization": f"Bearer {READER}"}
    async with asyncio.timeout(PATIENCE):
        while True:
            async with house.fabric.session.get(url, headers=headers) as page:
                (told,) = [each for each in (await page.json())["data"] if each["model"] == "echo"]
            own, lane = told["own"]["requests"], told["lanes"].get("pinned to gpu-1", {})
            waits = [(each["lane"], each["position"]) for each in own]
            if waits == [("pinned to gpu-1", 1)] and lane.get("waiting") == 1:
                break
            await asyncio.sleep(0.05)
    for each in asked:
        each.cancel()
    await house.fabric.idle()


async def test_a_job_waits_for_its_node_to_come_back(house: House) -> None:
    """It is killed in the middle of it; nobody else may have it."""
    slow = {"echo": {"first_ms": 600}}
    asked = asyncio.create_task(house.ask("gpu-2", "survivor", **slow))
    await house.workers["gpu-2"].logged(
        "runner.began", skip=house.workers["gpu-2"].count("runner.began")
    )
    await house.workers["gpu-2"].kill()
    await house.ingress.logged("worker.lost")
    status, code, error = await house.ask("gpu-2", "new")
    assert (status, code) == (503, "no_worker")
    assert "The node 'gpu-2' is away" in error["message"]
    await house.start("gpu-2")
    assert (await asked)[:2] == (200, "gpu-2")
    await house.fabric.idle()
