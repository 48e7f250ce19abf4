"""Several ingresses that share a record through a store, in simulated time: messages are late or
lost, processes die, and each ingress knows the time only roughly."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from ingress.limits.share import Share, Taken
from ingress.limits.terms import Cost, Moment, Terms
from schemas import limits
from schemas.keys import Limits
from schemas.limits import CONCURRENT, REQUESTS, TOKENS, Record

WINDOW = 1_000
MONTH = 24_000


class Message(NamedTuple):
    """A write on its way to the store."""

    after: int
    data: bytes


@dataclass
class Running:
    """An admitted request. `tokens`: what it is known to have used at most."""

    at: int
    taken: Taken
    tokens: int
    over: bool = False


@dataclass
class Node:
    """One ingress. `error`: by how much its clock is wrong; `doubt`: how wrong it thinks to be."""

    share: Share
    error: int
    doubt: int
    place: int = 0
    known: bool = False
    sent: Message | None = None
    """A write that the store has not seen yet."""
    proposed: Record | None = None
    told: str = ""
    """What the store said of the write: "written" or "refused"."""
    stored: int = 0
    late: list[Message] = field(default_factory=list)
    """Writes that may reach the store after they were given up."""
    running: list[Running] = field(default_factory=list)


class World:
    def __init__(self, wanted: Limits, nodes: int, doubt: int = 20) -> None:
        self.terms = Terms(wanted)
        self.now = MONTH * 30 * 86_400_000
        self.place = 0
        self.data = b""
        self.log: list[Running] = []
        self._doubt = doubt
        self._made = 0
        self.calls = 0
        self.nodes = [self._node(number) for number in range(nodes)]

    def _node(self, number: int) -> Node:
        self._made += 1
        share = Share(f"in-{self._made}", self.terms, WINDOW)
        error = (number % 3 - 1) * self._doubt  # as wrong as it may be, either way
        return Node(share, error, self._doubt)

    def moment(self, node: Node) -> Moment:
        told = self.now + node.error
        return Moment(told - node.doubt, told + node.doubt, MONTH, 1000)

    # What an ingress does, step by step

    def admit(self, node: Node, tokens: int) -> bool:
        cost, now = Cost(tokens), self.moment(node)
        if node.share.lacks(cost, now):
            return False
        running = Running(self.now, node.share.take(cost, now), tokens)
        node.running.append(running)
        self.log.append(running)
        return True

    def look(self, node: Node) -> None:
        """Read the record."""
        if node.proposed is not None:
            return
        self.calls += 1
        node.place = self.place
        record = limits.unpack(self.data) if self.data else Record()
        node.share.saw(record, self.moment(node))
        node.known = True

    def propose(self, node: Node, wanted: list[int]) -> None:
        if node.proposed is not None or not node.known:
            return
        costs = [Cost(tokens) for tokens in wanted]
        record = node.share.propose(costs, self.moment(node))
        if record is not None:
            node.proposed, node.sent = record, Message(node.place, record.pack())

    def store(self, node: Node) -> None:
        """The store takes the write, or refuses it."""
        if node.sent is None:
            return
        self.calls += 1
        node.told = "written" if self._take(node.sent) else "refused"
        node.stored, node.sent = self.place, None

    def _take(self, message: Message) -> bool:
        if message.after != self.place:
            return False
        self.place, self.data = self.place + 1, message.data
        return True

    def hear(self, node: Node) -> None:
        """The ingress hears what became of its write."""
        if not node.told or node.proposed is None:
            return
        if node.told == "written":
            node.share.written(node.proposed, self.moment(node))
            node.place = node.stored
        else:
            node.share.refused()
            node.known = False
        node.told, node.proposed = "", None

    def give_up(self, node: Node) -> None:
        """The answer to a write does not come. The write may still be under way. It is given up
        long after leases of its time have ended."""
        if node.proposed is None:
            return
        self.pass_time(2000)
        if node.sent is not None:
            node.late.append(node.sent)
        node.share.unknown()
        node.sent, node.told, node.proposed, node.known = None, "", None, False

    def arrive_late(self, node: Node) -> None:
        if node.late:
            self._take(node.late.pop())

    def finish(self, node: Node, part: float) -> None:
        """The oldest request is over; it used a part of its tokens."""
        if not node.running:
            return
        request, now = node.running.pop(0), self.moment(node)
        used = int(request.tokens * part)
        for meter in request.taken.meters:
            if meter == TOKENS:
                node.share.settle(meter, used - request.tokens, request.taken.at, now)
        request.tokens, request.over = used, True
        for gauge in request.taken.gauges:
            node.share.free(gauge, now)
        if self.terms.budgets:
            node.share.spend(used, 0, now)

    def kill(self, number: int) -> None:
        """It dies, and another takes its place."""
        for running in self.nodes[number].running:
            running.over = True
        self.nodes[number] = self._node(number)

    # Without faults

    def exchange(self, node: Node, wanted: list[int]) -> None:
        """All steps of a flight, as a keeper does them."""
        costs = [Cost(tokens) for tokens in wanted]
        for _ in range(10):
            if not node.known or node.share.is_unsure(costs, self.moment(node)):
                self.look(node)
            self.propose(node, wanted)
            self.store(node)
            self.hear(node)
            if node.known:
                return

    def ask(self, node: Node, tokens: int) -> bool:
        cost = Cost(tokens)
        if self.admit(node, tokens):
            return True
        if node.proposed is not None:
            return False
        if node.share.reached.by(cost, self.terms, self.moment(node)):
            return False
        self.exchange(node, [tokens])
        if self.admit(node, tokens):
            return True
        assert node.share.refusal(cost, self.moment(node)) is not None
        return False

    def tick(self, node: Node) -> None:
        if node.proposed is None and node.share.due(self.moment(node)) == 0:
            self.exchange(node, [])

    def pass_time(self, ms: int) -> None:
        """Places that nobody prolonged are lost: what runs there counts no more."""
        self.now += ms
        for node in self.nodes:
            if node.share.alive < self.now:
                for running in node.running:
                    running.over = True

    # What must be true

    def check(self) -> None:
        """No window has more than the limit. Only windows that end with a use need a look, and the
        last one is new."""
        now = [each for each in self.log if each.at >= self.now - WINDOW]
        if (most := self.terms.meters.get(REQUESTS)) is not None:
            assert len(now) <= most
        if (most := self.terms.meters.get(TOKENS)) is not None:
            assert sum(each.tokens for each in now) <= most
        if most := self.terms.places(CONCURRENT):
            assert sum(not each.over for each in self.log) <= most
        self.log = [each for each in self.log if not each.over or each.at >= self.now - WINDOW]
