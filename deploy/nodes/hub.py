"""The hub: in the process that runs the broker, it lets nodes in, and holds them to their records.

It follows the records of nodes and invitations, has the broker know exactly those who may log in,
and answers whoever is invited. It hears the cards of all members: a node that joined is granted the
models that it shows and may serve, and is told its orders until its card agrees with them. All that
it knows is in the stream, so that it may end and begin again at any time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import structlog

from deploy.nats.broker import Broker
from deploy.nats.errors import BrokerError
from deploy.nats.rights import HUB_ROLE, SYSTEM_ROLE
from deploy.nodes import changes, exchange, gate
from deploy.nodes.desk import Desk
from deploy.nodes.exchange import Answer
from deploy.nodes.gate import Refused
from deploy.nodes.orders import Muster
from deploy.nodes.roster import Roster
from deploy.nodes.store import NodeStore
from schemas import bus as buses
from schemas import nodes, registry, subjects
from schemas.bus import Bus, BusError, Message
from schemas.frames import Op, pack_control
from schemas.jetstream.records import Records
from schemas.jobs import CodecError
from schemas.nodes import Card
from schemas.registry import Node
from schemas.settings import Nats
from schemas.watched import watched

log = structlog.get_logger("hub")

RELOAD = 10.0
"""Seconds that the broker has to take new logins."""
APPLY = 10.0
"""Seconds that somebody waits for a change to be in force."""
_AGAIN = 0.5
"""Seconds until it is tried again to have the broker take them."""
_REST = 0.1
"""Seconds between two reloads of the broker: changes meanwhile are taken together."""
_MOST_ASKED = 256
"""Questions that are being answered."""
_GRANT_EACH = 0.5
"""Seconds between two grants to one node."""
_LOOK = 1.0
"""Seconds between two looks for nodes that fell silent, and logins that ended."""


class Hub:
    """`run` works until it is cancelled. `login`: how to reach the broker as one of its roles, at
    this moment. `say`: gets what people are told of nodes."""

    def __init__(
        self,
        broker: Broker,
        login: Callable[[str], Nats],
        say: Callable[[str], None] = lambda text: None,
        forget: float = 0.0,
    ) -> None:
        """`forget`: seconds after which a node that is away is forgotten; 0: never."""
        self._broker = broker
        self._login = login
        self._say = say
        self._forget = forget
        self._roster = Roster()
        self._muster = Muster(self._roster)
        self._taken = True
        """The broker runs with the logins that its configuration has."""
        self._applied = 0
        """The place in the stream up to which all is in force."""
        self._ends = math.inf
        """When a login ends by itself (Unix seconds)."""
        self._changed = asyncio.Event()
        self._news = asyncio.Condition()
        self._lock = asyncio.Lock()
        """Who is let in and granted is decided one after the other."""
        self._granting: set[str] = set()
        """Nodes that were granted models just now."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Raises BusError if the broker refuses this process."""
        async with contextlib.AsyncExitStack() as stack:
            self._bus = await self._connect(HUB_ROLE, stack)
            self._system = await self._connect(SYSTEM_ROLE, stack)
            stack.callback(self._end)
            self._store = NodeStore(self._bus, self._login(HUB_ROLE).replicas)
            await self._open()
            self._records = Records(self._bus, subjects.NODES_STREAM, self._heard)
            await self._bus.subscribe(subjects.ALL_CARDS, self._card)
            await self._bus.subscribe(subjects.ALL_JOINS, self._asked(self._join))
            await self._bus.subscribe(subjects.ALL_ROTATIONS, self._asked(self._rotate))
            await self._bus.subscribe(subjects.ASK_APPLIED, self._asked(self._tell_applied))
            await self._bus.subscribe(subjects.ALL_NODE_CHANGES, self._asked(self._change))
            following = asyncio.create_task(watched("records", self._records.run))
            looking = asyncio.create_task(watched("nodes", self._look))
            stack.callback(following.cancel)
            stack.callback(looking.cancel)
            await watched("hub", self._keep)

    async def _connect(self, role: str, stack: contextlib.AsyncExitStack) -> Bus:
        inbox = f"{subjects.INBOX_HUB}.{role}"
        bus = await buses.connect(self._login(role), "headrace-hub", inbox)
        stack.push_async_callback(bus.close)
        return bus

    def _end(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _open(self) -> None:
        """Make the stream, however long the broker takes to come up."""
        while True:
            try:
                return await self._store.open()
            except BusError as fault:
                log.warning("hub.waiting", error=str(fault))
                await asyncio.sleep(_AGAIN)

    def _heard(self) -> None:
        self._roster.read(self._records.last)
        self._changed.set()

    # What is in force.

    async def _keep(self) -> None:
        """Have the broker know who is on the roster, after each change and as times end."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._apply()
            except (BusError, BrokerError, OSError) as fault:
                log.error("hub.not_applied", error=str(fault))
                self._changed.set()
                await asyncio.sleep(_AGAIN)
                continue
            await asyncio.sleep(_REST)

    async def _apply(self) -> None:
        """Raises BusError, OSError."""
        now = time.time()
        place, logins = self._records.seq, self._roster.logins(now)
        self._ends = now + self._roster.next_end(now)
        if logins != self._broker.joined or not self._taken:
            self._taken = False
            await asyncio.to_thread(self._broker.admit, logins)
            await self._reload()
            self._taken = True
            log.info("hub.applied", logins=len(logins))
        self._applied = place
        async with self._news:
            self._news.notify_all()
        for card in self._muster.cards():
            self._order(card)

    async def _reload(self) -> None:
        """Raises BusError."""
        subject = f"$SYS.REQ.SERVER.{self._system.server_id}.RELOAD"
        told = json.loads((await self._system.request(subject, timeout=RELOAD)).data)
        if error := told.get("error"):
            raise BusError(f"the broker does not take its new configuration: {error}")

    async def _until(self, place: int) -> None:
        """Wait until the record at `place` is in force. Raises TimeoutError."""
        async with asyncio.timeout(APPLY), self._news:
            await self._news.wait_for(lambda: self._applied >= place)

    # What others ask.

    def _asked(self, answer: Callable[[Message], Coroutine[Any, Any, bytes]]) -> Any:
        """A handler of questions, each of which has one answer."""

        async def work(message: Message) -> None:
            try:
                said = await answer(message)
            except Refused as why:
                log.warning("hub.refused", subject=message.subject, code=why.code, why=str(why))
                said = why.answer(time.time()).pack()
            except (BusError, TimeoutError, CodecError) as fault:
                log.error("hub.not_answered", subject=message.subject, error=str(fault))
                text = f"the hub cannot do that now ({type(fault).__name__}): try again"
                said = Refused(exchange.BROKEN, text).answer(time.time()).pack()
            with contextlib.suppress(BusError):
                self._bus.post(message.reply, said)

        def hear(message: Message) -> None:
            # Whoever has an open invitation may ask as often as he likes, and is not heard then.
            if message.reply and len(self._tasks) < _MOST_ASKED:
                self._spawn(work(message))

        return hear

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _join(self, message: Message) -> bytes:
        """Raises Refused, BusError, TimeoutError, CodecError."""
        ask = exchange.unpack_ask(message.data)
        id = message.subject.rpartition(".")[2]
        async with self._lock:
            now = time.time()
            invite, node = gate.admitted(self._roster, id, ask, now)
            if not invite.used:
                before = self._roster.nodes.get(node.name)
                if before is None and not await self._store.write(node, await self._place(node)):
                    raise BusError("another has joined by this name just now")
                place = await self._store.invite(
                    replace(invite, used=now), self._roster.invites[id][0]
                )
                await self._until(place)
                log.info("hub.joined", node=node.name, role=node.role)
                self._say(f"{node.name} has joined as {node.role}")
        return Answer(time.time(), node.name, node.role).pack()

    async def _place(self, node: Node) -> int:
        """Where the record of a node that was forgotten is."""
        return self._records.last.get(subjects.node(node.name), (0, b""))[0]

    async def _rotate(self, message: Message) -> bytes:
        """Raises Refused, BusError, TimeoutError, CodecError."""
        ask = exchange.unpack_ask(message.data)
        name = subjects.decode(message.subject.rpartition(".")[2])
        async with self._lock:
            node = gate.rotated(self._roster, name, ask, time.time())
            place, before = self._roster.nodes[name]
            if node != before:
                await self._until(await self._write(node, place))
                log.info("hub.rotated", node=name)
        return Answer(time.time(), node.name, node.role).pack()

    async def _write(self, node: Node, after: int) -> int:
        """Raises BusError."""
        if place := await self._store.write(node, after):
            return place
        raise BusError(f"the record of {node.name} was changed meanwhile")

    async def _tell_applied(self, message: Message) -> bytes:
        place = int(message.data) if message.data.isdigit() and len(message.data) < 20 else 0
        await self._until(place)
        return json.dumps({"applied": self._applied}).encode()

    async def _change(self, message: Message) -> bytes:
        verb = message.subject.rpartition(".")[2]
        return await changes.make(verb, message.data, self._broker.store, self._desk)

    async def _desk(self) -> Desk:
        """The records as they are now. Raises BusError, CodecError."""
        desk = Desk(self._bus, self._store, self._until)
        await desk.read()
        return desk

    # What nodes are told, and granted.

    def _card(self, message: Message) -> None:
        try:
            card = nodes.heard(message.subject, message.data, partly=True)
        except CodecError:  # ingresses say so
            return
        node = self._muster.hear(card, time.time())
        if node is None:
            return
        self._order(card)
        # A node that shows others each time is granted some a second, and others wait no longer.
        if node.name not in self._granting and (new := self._muster.ungranted(card)):
            self._granting.add(node.name)
            asyncio.get_running_loop().call_later(_GRANT_EACH, self._granting.discard, node.name)
            self._spawn(self._grant(node.name, new))

    def _order(self, card: Card, *, anyway: bool = False) -> None:
        """Tell a process what it is to do, if its card shows that it does not know."""
        if (order := self._muster.order(card, anyway=anyway)) is not None:
            said = pack_control(Op.ORDER, "", 0, 0, order.pack())
            with contextlib.suppress(BusError):
                self._bus.post(subjects.control(card.holder), said)

    async def _grant(self, name: str, models: frozenset[str]) -> None:
        """Let a node pull these models, too."""
        async with self._lock:
            place, node = self._roster.nodes.get(name, (0, None))
            if node is None or models <= set(node.served):
                return
            served = tuple(dict.fromkeys((*node.served, *sorted(models))))
            try:
                await self._until(await self._write(replace(node, served=served), place))
            except (BusError, TimeoutError) as fault:  # its next card asks again
                log.warning("hub.not_granted", node=name, error=str(fault))
                return
            log.info("hub.granted", node=name, models=sorted(models))
            for card in self._muster.cards_of(name):  # it may have asked for jobs in vain
                self._order(card, anyway=True)

    async def _look(self) -> None:
        """Note when a node was seen last, and have logins end that were good for a time."""
        while True:
            await asyncio.sleep(_LOOK)
            if time.time() >= self._ends:
                self._changed.set()
            for name, seen in self._muster.sightings(time.time()):
                await self._note(name, seen)
            for node in self._muster.long_gone(time.time(), self._forget):
                with contextlib.suppress(BusError):  # another change goes first
                    if await self._store.write(node.name, self._roster.nodes[node.name][0]):
                        log.info("hub.node_forgotten", node=node.name)

    async def _note(self, name: str, seen: float) -> None:
        async with self._lock:
            place, node = self._roster.nodes.get(name, (0, None))
            if node is not None and node.nkey and node.state != registry.EVICTED:
                with contextlib.suppress(BusError):  # another change goes first
                    await self._store.write(replace(node, seen=seen), place)
