"""The hub with a real broker: who is let in, what a node may do then, and how that ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from nats.errors import Error as NatsError

from deploy.nats.broker import Broker
from deploy.nodes import exchange
from deploy.nodes.exchange import Answer, Ask
from deploy.nodes.hub import Hub
from deploy.nodes.store import NodeStore
from schemas import bus as buses
from schemas import frames, nkeys, registry, subjects, topology
from schemas.bus import Bus
from schemas.client import DirectClient
from schemas.jetstream import streams
from schemas.nkeys import KeyPair
from schemas.nodes import Card, EngineState, ServedModel
from schemas.registry import Invite, Node, Order
from schemas.settings import Jobs, Nats

PATIENCE = 20.0


def login(broker: Broker, role: str) -> Nats:
    user, password = broker.users[role]
    return Nats.model_validate({"url": broker.url, "user": user, "password": password})


class Client:
    """Who logs in by a key."""

    def __init__(self, client: DirectClient) -> None:
        self.nats = client
        self.closed = asyncio.Event()
        self.denied: list[str] = []
        self._news = asyncio.Event()

    async def until_denied(self, subject: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while not any(subject.lower() in each.lower() for each in self.denied):
                self._news.clear()
                await self._news.wait()


async def applied(bus: Bus, place: int = 0) -> None:
    """Wait until the hub has put the record at `place` in force."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await bus.request(subjects.ASK_APPLIED, b"%d" % place, timeout=PATIENCE)
                return
            except buses.BusError:  # it does not listen yet
                await asyncio.sleep(0.02)


class HubSetup:
    def __init__(self, broker: Broker, bus: Bus) -> None:
        self.broker = broker
        self.bus = bus
        self.store = NodeStore(bus)
        self.hub = Hub(broker, lambda role: login(broker, role))
        self.task = asyncio.create_task(self.hub.run())
        self.clients: list[Client] = []

    async def applied(self, place: int = 0) -> None:
        await applied(self.bus, place)

    async def invite(self, name: str = "gpu", **fields: object) -> tuple[KeyPair, Invite]:
        key = nkeys.make()
        expires = time.time() + 3600
        made = Invite(f"i{time.time_ns()}", name, key.public, expires, time.time())
        invite = replace(made, **fields)  # type: ignore[arg-type]
        await self.applied(await self.store.invite(invite))
        return key, invite

    async def connect(self, key: KeyPair, inbox: str) -> Client:
        """Raises NatsError if it is refused."""
        client = DirectClient()
        client._public_nkey = key.public
        found = Client(client)

        async def failed(fault: Exception) -> None:
            found.denied.append(str(fault))
            found._news.set()

        async def closed() -> None:
            found.closed.set()

        self.clients.append(found)  # closed, also if it is refused
        await client.connect(
            self.broker.url,
            signature_cb=key.sign,
            inbox_prefix=inbox.encode(),
            allow_reconnect=False,
            error_cb=failed,
            closed_cb=closed,
            disconnected_cb=closed,
        )
        return found

    async def ask(self, key: KeyPair, id: str, ask: Ask) -> Answer:
        client = await self.connect(key, f"_J.{id}")
        told = await client.nats.request(subjects.join(id), ask.pack(), timeout=PATIENCE)
        await client.nats.close()
        return exchange.unpack_answer(told.data)

    async def joined(self, name: str = "gpu", **fields: object) -> KeyPair:
        token, invite = await self.invite(name, **fields)
        key = nkeys.make()
        told = await self.ask(token, invite.id, Ask(key.public, time.time()))
        assert (told.code, told.name) == ("", name), told
        return key

    async def node(self, name: str) -> Node:
        found = registry.unpack(Node, (await self.store.last())[subjects.node(name)][1])
        assert found is not None
        return found

    async def change(self, name: str, **fields: object) -> None:
        def make(before: Node | None) -> Node:
            assert before is not None
            return replace(before, **fields)  # type: ignore[arg-type]

        await self.applied(await self.store.change(name, make))


@asynccontextmanager
async def opened(broker: Broker) -> AsyncIterator[HubSetup]:
    bus = await buses.connect(login(broker, "admin"), "test", "_A.test")
    made = HubSetup(broker, bus)
    try:
        await made.applied()
        yield made
    finally:
        made.task.cancel()
        await asyncio.gather(made.task, return_exceptions=True)
        for client in made.clients:
            await client.nats.close()
        await bus.close()


@pytest.fixture
async def setup(broker: Broker) -> AsyncIterator[HubSetup]:
    async with opened(broker) as made:
        yield made


def card(holder: str, *models: str, draining: bool = False) -> Card:
    served = tuple(ServedModel(model, "e", "echo", 1) for model in models)
    state = EngineState("e", "echo", "ready", 1, 0)
    node = subjects.decode(subjects.home_of(holder))
    return Card(holder, node, "s", 1, "1", draining, (state,), served)


async def test_who_is_invited_joins_once_and_may_come_back(setup: HubSetup) -> None:
    token, invite = await setup.invite()
    key = nkeys.make()
    for _ in range(2):  # the second time as if the answer had been lost
        told = await setup.ask(token, invite.id, Ask(key.public, time.time()))
        assert (told.code, told.name, told.role) == ("", "gpu", "worker")
    again = await setup.ask(token, invite.id, Ask(nkeys.make().public, time.time()))
    assert again.code == exchange.USED
    assert (await setup.node("gpu")).nkey == key.public
    node = await setup.connect(key, "_W.gpu.x")
    await node.nats.publish("hb.gpu.x", b"")
    await node.nats.flush()
    assert node.denied == []
    await node.nats.publish("hb.other.x", b"")
    await node.until_denied("hb.other.x")


async def test_why_somebody_cannot_join(setup: HubSetup) -> None:
    fresh = Ask(nkeys.make().public, time.time())
    late, invite = await setup.invite(expires=time.time() - 1)
    assert (await setup.ask(late, invite.id, fresh)).code == exchange.EXPIRED
    token, invite = await setup.invite()
    off = Ask(fresh.nkey, time.time() - 3600)
    assert (await setup.ask(token, invite.id, off)).code == exchange.WRONG_CLOCK
    await setup.joined("taken")
    token, invite = await setup.invite("taken")
    assert (await setup.ask(token, invite.id, fresh)).code == exchange.TAKEN
    await setup.change("taken", state=registry.EVICTED)
    assert (await setup.ask(token, invite.id, fresh)).code == exchange.EVICTED
    with pytest.raises(NatsError):
        await setup.connect(nkeys.make(), "_J.x")


async def test_an_evicted_node_is_cut_off_at_once_and_cannot_come_back(setup: HubSetup) -> None:
    key = await setup.joined()
    node = await setup.connect(key, "_W.gpu.x")
    await setup.change("gpu", state=registry.EVICTED)
    async with asyncio.timeout(PATIENCE):
        await node.closed.wait()
    with pytest.raises(NatsError):
        await setup.connect(key, "_W.gpu.x")


async def test_a_node_is_granted_the_models_that_it_shows_and_may_serve(setup: HubSetup) -> None:
    node = await setup.connect(await setup.joined(models=("llama*",)), "_W.gpu.x")
    pull = f"$JS.API.CONSUMER.MSG.NEXT.JOBS.{subjects.consumer('llama3', 'i')}"
    await node.nats.publish(pull, b"", reply="_W.gpu.x.p")
    await node.until_denied(pull)
    shown = card("gpu.x", "llama3", "qwen")
    await node.nats.publish("hb.gpu.x", shown.pack())
    async with asyncio.timeout(PATIENCE):
        while (await setup.node("gpu")).served != ("llama3",):
            await asyncio.sleep(0.02)
    await setup.applied((await setup.store.last())[subjects.node("gpu")][0])
    node.denied.clear()
    await node.nats.publish(pull, b"", reply="_W.gpu.x.p")
    other = f"$JS.API.CONSUMER.MSG.NEXT.JOBS.{subjects.consumer('qwen', 'i')}"
    await node.nats.publish(other, b"", reply="_W.gpu.x.p")
    await node.until_denied(other)
    assert not any(pull.lower() in each.lower() for each in node.denied)


async def test_a_node_is_told_its_order_until_its_card_agrees(setup: HubSetup) -> None:
    node = await setup.connect(await setup.joined(), "_W.gpu.x")
    heard: asyncio.Queue[Order] = asyncio.Queue()

    async def hear(message: object) -> None:
        control = frames.unpack_control(message.data)  # type: ignore[attr-defined]
        order = registry.unpack(Order, control.given)
        assert control.op == frames.Op.ORDER
        assert order is not None
        heard.put_nowait(order)

    await node.nats.subscribe("c.gpu.x", cb=hear)

    async def show(draining: bool) -> None:
        await node.nats.publish("hb.gpu.x", card("gpu.x", draining=draining).pack())
        await node.nats.flush()

    await show(False)
    await setup.change("gpu", state=registry.DRAINED)
    async with asyncio.timeout(PATIENCE):
        assert await heard.get() == Order("gpu", True)
        await show(False)
        assert await heard.get() == Order("gpu", True)
    await show(True)
    await setup.change("gpu", state=registry.ACTIVE)
    async with asyncio.timeout(PATIENCE):
        assert await heard.get() == Order("gpu", False)
    assert heard.empty()


async def test_keys_are_changed_when_that_is_ordered_and_the_old_one_is_good_for_a_while(
    setup: HubSetup,
) -> None:
    old, new = await setup.joined(), nkeys.make()
    node = await setup.connect(old, "_W.gpu.x")

    async def rotate() -> Answer:
        asked = Ask(new.public, time.time()).pack()
        told = await node.nats.request(subjects.rotation("gpu"), asked, timeout=PATIENCE)
        return exchange.unpack_answer(told.data)

    assert (await rotate()).code == exchange.BROKEN
    await setup.change("gpu", rotate=time.time())
    assert (await rotate()).code == ""
    assert (await rotate()).code == ""
    found = await setup.node("gpu")
    assert (found.nkey, found.previous_nkey, found.rotate) == (new.public, old.public, 0.0)
    assert not node.closed.is_set()
    await setup.connect(new, "_W.gpu.y")
    await setup.change("gpu", previous_until=time.time())
    async with asyncio.timeout(PATIENCE):
        await node.closed.wait()


async def test_the_hub_goes_on_with_a_broker_that_was_killed(setup: HubSetup) -> None:
    key = await setup.joined()
    back = asyncio.Event()
    setup.bus.on_reconnect(back.set)
    setup.broker.kill()
    await asyncio.to_thread(setup.broker.restart)
    async with asyncio.timeout(PATIENCE):
        await back.wait()
    node = await setup.connect(key, "_W.gpu.x")
    await setup.change("gpu", state=registry.EVICTED)
    async with asyncio.timeout(PATIENCE):
        await node.closed.wait()
    await setup.joined("another")


async def test_the_broker_drops_a_consumer_that_nobody_pulls_from(setup: HubSetup) -> None:
    await streams.ensure(setup.bus, topology.streams(Jobs(), 1))
    for forget in (3600.0, 0.2):  # changed, as by a release that has another default
        config = topology.consumer("m", "i", 3, 1, forget)
        await streams.ensure_consumer(setup.bus, subjects.JOBS_STREAM, config)
    async with asyncio.timeout(PATIENCE):
        while await streams.consumers(setup.bus, subjects.JOBS_STREAM):
            await asyncio.sleep(0.05)


async def test_after_a_restart_of_the_broker_nodes_may_come_back_before_there_is_a_hub(
    broker: Broker,
) -> None:
    async with opened(broker) as made:
        key = await made.joined()
    await asyncio.to_thread(broker.restart)
    setup = HubSetup.__new__(HubSetup)
    setup.broker, setup.clients = broker, []
    client = await setup.connect(key, "_W.gpu.x")
    assert client.nats.is_connected
    await client.nats.close()


async def test_a_joiner_whose_key_is_none_holds_up_nobody(setup: HubSetup) -> None:
    """The broker takes no configuration with such a key, nor would it start with it."""
    token, invite = await setup.invite()
    key = nkeys.make().public
    wrong = key[:-1] + ("A" if key[-1] != "A" else "B")
    told = await setup.ask(token, invite.id, Ask(wrong, time.time()))
    assert told.code == exchange.BROKEN
    await setup.joined("another")


async def test_what_the_broker_did_not_take_is_not_in_force(
    setup: HubSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await setup.joined()
    node = await setup.connect(key, "_W.gpu.x")
    reload, refused = setup.hub._reload, 0

    async def fails() -> None:
        nonlocal refused
        refused += 1
        if refused < 3:
            raise buses.BusError("the broker does not take its new configuration")
        await reload()

    monkeypatch.setattr(setup.hub, "_reload", fails)
    await setup.change("gpu", state="evicted")
    assert refused == 3
    await asyncio.wait_for(node.closed.wait(), PATIENCE)
