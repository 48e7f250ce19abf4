"""What stolen logins try, by the table of `tests/doubles/hostile/acts.py`, at a real broker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from nats.aio.client import Client
from nats.errors import Error
from pydantic import SecretStr

from deploy.nats import binary, rights
from deploy.nats import store as stores
from deploy.nats.broker import Broker
from deploy.nats.config import ANY_PORT, MAX_SUBSCRIPTIONS, ServerConfig
from deploy.nats.credentials import obtain, write_private
from deploy.nats.rights import Login
from schemas import bus as buses
from schemas import frames, nkeys, nodes, registry, subjects, topology
from schemas.bus import Bus, BusError
from schemas.jobs import CodecError
from schemas.registry import Invite, Node
from schemas.settings import Cache, Jobs, Nats
from tests.doubles.hostile import acts
from tests.doubles.hostile.acts import DENIED, Act
from tests.fabric import PATIENCE
from tests.integration.deploy.roles import connected
from tests.unit import fakes

pytestmark = pytest.mark.asyncio(loop_scope="module")

PULL = b'{"batch":1,"no_wait":true,"group":"headrace"}'
INBOXES = {
    acts.WORKER: "_W.thief",
    acts.JOINED: f"_W.{acts.NODE}",
    acts.FALLBACK: "_F.thief",
    acts.INGRESS: "_I.thief",
    acts.MONITOR: "_M.thief",
    acts.CONSOLE: "_M.thief",
    acts.INVITED: f"_J.{acts.INVITE}",
}


@dataclass(frozen=True)
class Thieves:
    """A broker, an admin, and a connection with each login that was stolen. `keys`: by whom."""

    broker: Broker
    keys: Mapping[str, str]
    buses: Mapping[str, Bus]
    admin: Bus

    def seed(self, who: str) -> Nats:
        return Nats(url=self.broker.url, seed=self.keys[who])

    async def state(self) -> dict[str, Any]:
        """All streams and consumers where the streams are."""
        found = {}
        for name in ("JOBS", "DEAD", "USAGE", "ANSWERS", "CACHE", "ALERTS", "NODES"):
            info = await self.admin.api(f"STREAM.INFO.{name}")
            found[name] = info["config"], info["state"]["messages"], info["state"]["consumer_count"]
        return found


def _joined(home: Path) -> tuple[dict[str, str], tuple[Login, ...]]:
    """Files with the seeds of all that joined or would, and their logins."""
    pairs = {who: nkeys.make() for who in (acts.JOINED, acts.EVICTED, acts.INVITED)}
    files = {}
    for who, pair in pairs.items():
        files[who] = str(home / f"{who}.seed")
        write_private(Path(files[who]), pair.seed)
    key = pairs[acts.JOINED].public
    node = Node(acts.NODE, nkey=key, served=(acts.MINE,))
    evicted = Node("gone", nkey=pairs[acts.EVICTED].public, state=registry.EVICTED)
    invite = Invite(acts.INVITE, "new", pairs[acts.INVITED].public, 2**40)
    logins = (
        *rights.node_users(node, node.nkey),
        *rights.node_users(evicted, evicted.nkey),
        rights.invite_user(invite),
    )
    return files, logins


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def thieves(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Thieves]:
    home = tmp_path_factory.mktemp("thieves")
    files, logins = _joined(home)
    async with contextlib.AsyncExitStack() as stack:
        lock = stack.enter_context(stores.claimed(home / "broker"))
        users = obtain(home / "broker", rights.ROLES)
        config = ServerConfig(home / "broker", users, ANY_PORT, joined=logins)
        broker = await asyncio.to_thread(Broker, config, binary.find(), lock, 30.0)
        stack.callback(broker.stop)

        async def joined(settings: Nats, inbox: str) -> Bus:
            bus = await buses.connect(settings, "thief", inbox)
            stack.push_async_callback(bus.close)
            return bus

        def of_role(role: str) -> Nats:
            user, password = users[role]
            return Nats(url=broker.url, user=user, password=SecretStr(password))

        admin = await joined(of_role("admin"), "_A.thieves")
        more = topology.nodes(1), topology.cache(Cache(), 1)
        for stream in (*topology.streams(Jobs(), 1), *more):
            await admin.api(f"STREAM.CREATE.{stream['name']}", stream)
        for model in (acts.MINE, acts.THEIRS):
            consumer = topology.consumer(model, subjects.INTERACTIVE, 3.0, 1)
            made = {"stream_name": "JOBS", "config": consumer}
            await admin.api(f"CONSUMER.CREATE.JOBS.{consumer['durable_name']}", made)
        found = {}
        for who, inbox in INBOXES.items():
            settings = Nats(url=broker.url, seed=files[who]) if who in files else of_role(who)
            found[who] = await joined(settings, inbox)
        yield Thieves(broker, files, found, admin)


async def test_the_table_has_all_who_can_be_stolen_and_more_than_forty_acts() -> None:
    assert len({(act.who, act.subject) for act in DENIED}) == len(DENIED) > 40
    assert {act.who for act in DENIED} | {acts.STRANGER, acts.EVICTED} == set(acts.WHO)


@pytest.mark.parametrize("who", INBOXES)
async def test_each_is_denied(thieves: Thieves, who: str, subtests: pytest.Subtests) -> None:
    """What is denied is told to who tried it, in the order of the tries."""
    bus = thieves.buses[who]
    for act in [act for act in DENIED if act.who == who]:
        with subtests.test(f"{act.what}: {act.subject}"):
            await _try(bus, act)
            assert bus.denied == act.subject.lower()


async def _try(bus: Bus, act: Act) -> None:
    bus.denied = ""
    if act.hears:
        subscription = await bus.subscribe(act.subject, lambda _: None)
        await bus.flush()
        await subscription.stop()
    else:
        bus.post(act.subject, b"{}")
        await bus.flush()


async def test_a_foreign_reply_subject_has_no_effect(
    thieves: Thieves, subtests: pytest.Subtests
) -> None:
    """As the server publishes replies with its own rights, this deleted the stream of jobs, as long
    as workers and ingresses were in its account."""
    before = await thieves.state()
    for who, asked in acts.ASKED.items():
        with subtests.test(who):
            bus = thieves.buses[who]
            bus.denied = ""
            for subject in asked:
                for reply in acts.REPLIES:
                    bus.post(subject, _said_to(subject), reply)
            await bus.flush()
            assert bus.denied == "", "each may say that"
    await thieves.admin.flush()
    after = await thieves.state()
    # What an ingress and a fallback may write into.
    written = {"JOBS", "DEAD", "USAGE", "ANSWERS", "CACHE", "ALERTS"}
    for name, (config, messages, consumers) in before.items():
        assert after[name][0] == config
        assert after[name][2] == consumers
        assert after[name][1] >= messages if name in written else after[name][1] == messages
    assert after["NODES"] == before["NODES"]


def _said_to(subject: str) -> bytes:
    """What the broker answers with as few bytes as it can: who is to be deleted is asked without
    any."""
    if subject.startswith("$JS.ACK."):
        return b"+NXT " + PULL
    return PULL if ".MSG.NEXT." in subject else b""


async def test_the_same_deletes_a_stream_for_who_is_where_the_streams_are(
    thieves: Thieves,
) -> None:
    """It shows that the test before tries something."""
    admin = thieves.admin
    await admin.api("STREAM.CREATE.SCRATCH", {"name": "SCRATCH", "subjects": ["scratch"]})
    admin.post(acts.pull(acts.MINE, "i"), PULL, "$JS.API.STREAM.DELETE.SCRATCH")
    async with asyncio.timeout(PATIENCE):
        while "SCRATCH" in (await admin.api("STREAM.NAMES"))["streams"]:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("place", ["c.honest.w1", "r.in-1.honest.0", "hb.honest.w1"])
async def test_a_job_that_is_pulled_into_a_foreign_subject_is_no_word_there(
    thieves: Thieves, place: str
) -> None:
    """It does not leave the account of the thief, where it says nothing to who hears it."""
    admin, thief = thieves.admin, thieves.buses[acts.JOINED]
    crosses = place[0] != "c"
    reader = thieves.buses[acts.INGRESS if crosses else acts.WORKER]
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    subscription = await reader.subscribe(place, lambda message: heard.put_nowait(message.data))
    await reader.flush()
    job = subjects.jobs(acts.MINE, subjects.INTERACTIVE, "tests")
    sequence = (await admin.store(job, {}, fakes.job().pack()))["seq"]
    thief.post(acts.pull(acts.MINE, "i"), PULL, place)
    if not crosses:
        data = await asyncio.wait_for(heard.get(), PATIENCE)
        for unpack in (frames.unpack, frames.unpack_control, nodes.unpack):
            with pytest.raises(CodecError):
                unpack(data)
    for bus in (thief, admin, reader):
        await bus.flush()
    assert heard.empty()
    assert (await admin.api("STREAM.MSG.GET.JOBS", {"seq": sequence}))["message"]["data"]
    await subscription.stop()
    await admin.api("STREAM.MSG.DELETE.JOBS", {"seq": sequence})


async def test_a_consumer_of_an_ingress_pushes_to_nobody_elsewhere(thieves: Thieves) -> None:
    """An ingress makes consumers. What one pushes stays in the account of the streams, and it
    pushes only where somebody listens."""
    admin, ingress = thieves.admin, thieves.buses[acts.INGRESS]
    before = await thieves.state()
    await ingress.store("alerts.pushed", {}, b"{}")
    for number, place in enumerate([acts.DELETE_JOBS, "usage.x", "nodes.x", "c.honest.w1"]):
        name = f"push{number}"
        config = {"name": name, "deliver_subject": place, "ack_policy": "none"}
        made = {"stream_name": "ALERTS", "config": config}
        await ingress.api(f"CONSUMER.CREATE.ALERTS.{name}", made)
    after = await thieves.state()
    assert after["JOBS"] == before["JOBS"]
    assert after["USAGE"] == before["USAGE"]
    assert after["NODES"] == before["NODES"]
    for number in range(4):
        await admin.api(f"CONSUMER.DELETE.ALERTS.push{number}")


async def test_subscriptions_of_one_connection_end_somewhere(thieves: Thieves) -> None:
    """Each takes memory of the broker, and time of each message. Its connection ends, no other."""
    async with connected(thieves.broker, "worker") as greedy:
        with pytest.raises((Error, OSError)):
            await _subscribe_without_end(greedy.client)
    await thieves.buses[acts.WORKER].flush()
    assert "maximum subscriptions exceeded" in thieves.broker.log.read_text()


async def _subscribe_without_end(client: Client) -> None:
    for number in range(MAX_SUBSCRIPTIONS + 1):
        await client.subscribe(f"_W.thief.{number}", cb=_ignored)
    while True:
        await client.flush()


async def _ignored(_: object) -> None: ...


@pytest.mark.parametrize(
    "login",
    [{}, {"user": "worker", "password": SecretStr("guessed")}, {"user": "admin"}],
    ids=["none", "a guess", "no password"],
)
async def test_a_stranger_is_not_let_in(thieves: Thieves, login: dict[str, Any]) -> None:
    settings = Nats(url=thieves.broker.url, **login)
    with pytest.raises(BusError, match="the broker refuses"):
        await buses.connect(settings, "stranger", "_W.stranger")


async def test_the_credential_of_an_evicted_node_is_dead(thieves: Thieves) -> None:
    with pytest.raises(BusError, match="evicted"):
        await buses.connect(thieves.seed(acts.EVICTED), "evicted", "_W.gone")


async def test_what_a_node_may_do_is_done(thieves: Thieves) -> None:
    """Its own name, its models, its lane; and the hub hears it of its keys."""
    bus, admin = thieves.buses[acts.JOINED], thieves.admin
    bus.denied = ""
    own = subjects.pinned(acts.NODE)
    for lane in (subjects.INTERACTIVE, subjects.BATCH, own):
        bus.post(acts.pull(acts.MINE, lane), b"{}", f"{bus.inbox}.p.0")
        bus.post(acts.ack(acts.MINE, lane), b"-NAK")
    heard: asyncio.Queue[str] = asyncio.Queue()
    subscription = await admin.subscribe(
        subjects.ALL_CARDS, lambda message: heard.put_nowait(message.subject)
    )
    await admin.flush()
    bus.post(f"hb.{acts.NODE}.w1", b"{}")
    bus.post(f"r.in-1.{acts.NODE}.0", b"")
    bus.post(subjects.rotation(acts.NODE), b"{}")
    await bus.flush()
    async with asyncio.timeout(PATIENCE):
        assert await heard.get() == f"hb.{acts.NODE}.w1"
    assert bus.denied == ""
    await subscription.stop()
