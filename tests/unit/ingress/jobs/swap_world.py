"""A small world of two jobs that may have each other's messages, for the search of all states.

The order is left open: whenever a slot is claimed, either of the jobs that wait may be chosen, or
one of another ingress. So what holds here holds for any order, however wrong.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Any

from ingress.jobs.claims import Claims
from ingress.jobs.gossip import Offer
from ingress.jobs.state import Message, Terms
from ingress.jobs.ticket import Ticket
from schemas.frames import Frame, Kind, Op
from schemas.jobs import Job
from tests.unit import fakes
from tests.unit.ingress.jobs import search_world
from tests.unit.ingress.jobs.recorder import START, Holder

JOBS = "a" * 32, "b" * 32
FOREIGN = "x" * 32, 0
"""The message of a job of another ingress."""
Step = tuple[str, Callable[["SwapWorld"], None]]


class AnyOrder:
    """The queues and the only queue: `first` is chosen if it waits and fits. `returned`: jobs here
    are before all of others. `offers`: a slot is offered to others."""

    def __init__(self) -> None:
        self.waiting: set[str] = set()
        self.first = JOBS[0]
        self.returned = self.offers = False

    def head(self) -> None:
        """Only `returned` counts."""

    def offer(self, queue: AnyOrder, job: str, frame: Frame) -> bool:
        return self.offers

    def offer_again(self, nonce: int) -> bool:
        return False

    def of(self, model: str, lane: str) -> AnyOrder:
        return self

    def __len__(self) -> int:
        return len(self.waiting)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.waiting))

    def choose(self, fits: Callable[[str], bool]) -> str | None:
        both = sorted(self.waiting, key=lambda job: job != self.first)
        return next((job for job in both if fits(job)), None)


@dataclass
class Stored:
    """A message of the stream. `free`: it waits to be delivered."""

    deliveries: int = 0
    free: bool = True
    gone: bool = False


@dataclass
class Remote:
    """A worker with one delivery. `job`: the one that it claims or works on, and its edition.
    `mode`: claims, works (elsewhere: for another ingress), or over. `ended`: it has said all, and
    waits for its claim's answer. `offered`: its slot is offered to another ingress."""

    message: Message
    holder: Holder
    job: Message
    mode: str = "claims"
    ended: bool = False
    offered: bool = False
    wire: list[list[Frame]] = field(default_factory=list)
    told: list[tuple[Op, Message]] = field(default_factory=list)

    def claim(self) -> None:
        frame, edition = self.holder.claim(), self.job[1]
        body = (*frame.body[:5], edition, self.holder.begins or self.job != self.message)
        self.wire.append([frame._replace(body=body)])


class SwapWorld:
    """Also the `Effects` of its tickets."""

    def __init__(self, faults: int, remotes: int, several: bool = False) -> None:
        """`several`: there is another ingress."""
        self.several = several
        self.faults = faults
        self.most = remotes
        self.queue = AnyOrder()
        self.tickets: dict[str, Ticket] = {}
        self.owners: dict[Message, Message] = {}
        self.had: defaultdict[str, set[Message]] = defaultdict(set)
        self.guests: dict[int, str] = {}
        self.stays: dict[str, int] = {}
        self.messages: dict[Message, Stored] = {}
        self.remotes: list[Remote] = []
        self.gone_wrong = ""
        self.ended: list[str] = []
        self.fresh: list[Message] = []
        for id in JOBS:
            job = replace(fakes.job(), id=id)
            self.tickets[id] = Ticket(job, b"", Terms(max_attempts=3), self, START)
            self.publish(job)
        if several:
            self.messages[FOREIGN] = Stored(free=False)
        self.after()

    @property
    def claims(self) -> Claims:
        """Made anew each time: a state that was pickled shares no objects."""
        made = Claims(self.tickets, self.queue)  # type: ignore[arg-type]
        made._owners, made.moved = self.owners, self.had
        made._guests, made._stays = self.guests, self.stays
        if self.several:
            made.others = self.queue  # type: ignore[assignment]
        return made

    # What tickets do

    def say(self, holder: str, op: Op, job: str, nonce: int, first: int = 0) -> None:
        given = (job, self.tickets[job].job.edition) if op is Op.GIVE else ("", 0)
        for remote in self.remotes:
            if remote.holder.nonce == nonce and (op, given) not in remote.told:
                remote.told.append((op, given))

    def verdict(self, ack: str, word: bytes) -> None:
        for remote in self.remotes:
            if remote.holder.ack == ack:
                self.settle(remote, over=word == b"+TERM")

    def others(self, job: Job, holders: AbstractSet[str]) -> bool:
        return False

    def publish(self, job: Job) -> None:
        self.messages[job.id, job.edition] = Stored()
        self.fresh.append((job.id, job.edition))
        self.queue.waiting.add(job.id)

    def delete(self, sequence: int) -> None:
        stored = self.messages[list(self.messages)[sequence - 1]]
        stored.gone, stored.free = True, False

    def dead_letter(self, job: Job, error: str) -> None: ...

    def served(self, job: Job) -> None:
        self.queue.waiting.discard(job.id)

    def lost(self, job: Job, since: float) -> None:
        self.queue.waiting.add(job.id)

    def settle(self, remote: Remote, over: bool) -> None:
        """The broker hears what became of a delivery: also of one that is not the latest."""
        stored = self.messages[remote.message]
        if remote.message == FOREIGN:  # what becomes of it is the other's affair
            return
        stored.gone = stored.gone or over
        current = stored.deliveries == remote.holder.attempt
        stored.free = not stored.gone and (stored.free or (current and not over))

    # What may happen next

    def steps(self) -> Iterator[Step]:
        if len(self.remotes) < self.most:
            yield from self.deliveries()
            if self.several and self.queue.waiting:
                for first in sorted(self.queue.waiting):
                    yield f"a slot of another for {first[0]}", lambda w, f=first: w.take(f)  # type: ignore[misc]
        for index in range(len(self.remotes)):
            yield from self.remote_steps(index)
        for job, ticket in self.tickets.items():
            yield from self.ticket_steps(job, ticket)

    def deliveries(self) -> Iterator[Step]:
        for message, stored in self.messages.items():
            name = f"{message[0][0]}{message[1]}"
            if message == FOREIGN:
                continue
            if stored.free:
                yield f"{name} is delivered", lambda w, m=message: w.deliver(m, False)  # type: ignore[misc]
                if not stored.deliveries and not message[1]:
                    yield f"{name} is begun", lambda w, m=message: w.deliver(m, True)  # type: ignore[misc]
            elif stored.deliveries and (self.faults or self.is_left(message)):
                yield f"lease of {name} runs out", lambda w, m=message: w.run_out(m)  # type: ignore[misc]

    def is_left(self, message: Message) -> bool:
        """Whether nobody prolongs the lease."""
        turn, stored = (message, self.messages[message].deliveries), self.messages[message]
        over = [(r.message, r.holder.attempt) for r in self.remotes if r.mode == "over"]
        return turn in over and not stored.gone

    def remote_steps(self, index: int) -> Iterator[Step]:
        remote, faults = self.remotes[index], self.faults

        def on(act: Callable[[SwapWorld, Remote], None]) -> Callable[[SwapWorld], None]:
            return lambda w: act(w, w.remotes[index])

        name = remote.holder.name
        if remote.wire:
            if self.several and not remote.offered and remote.message != FOREIGN:
                yield f"{name} is heard, and offered", on(lambda w, r: w.hear(r, JOBS[0], True))
            for first in JOBS if len(self.queue) > 1 else JOBS[:1]:
                yield f"{name} is heard ({first[0]} first)", on(lambda w, r, f=first: w.hear(r, f))  # type: ignore[misc]
            if faults:
                yield f"{name}'s frame is lost", on(lambda w, r: w.lose(r.wire))
                yield f"{name}'s frame comes twice", on(lambda w, r: w.double(r.wire))
        if remote.told:
            yield f"{name} hears", on(lambda w, r: w.obey(r))
            if faults:
                yield f"{name} does not hear", on(lambda w, r: w.lose(r.told))
        if remote.mode == "claims" and not (remote.wire or remote.told or remote.offered):
            yield f"{name} claims again", on(lambda w, r: r.claim())
        if remote.offered:
            yield f"{name}'s offer is taken", on(lambda w, r: w.taken(r))
            for first in JOBS if len(self.queue) > 1 else JOBS[:1]:
                yield f"{name}'s is not ({first[0]} first)", on(lambda w, r, f=first: w.alone(r, f))  # type: ignore[misc]
                if faults:
                    yield f"{name}'s is, too late", on(lambda w, r, f=first: w.alone(r, f, True))  # type: ignore[misc]
        if remote.mode == "elsewhere":
            yield f"{name} ends elsewhere", on(lambda w, r: w.ends_elsewhere(r, True))
            yield f"{name} fails elsewhere", on(lambda w, r: w.ends_elsewhere(r, False))
        able = remote.mode == "works" or (remote.mode == "claims" and remote.holder.begins)
        if able and not remote.ended and not remote.wire:
            yield f"{name} answers", on(lambda w, r: w.answer(r))
        if faults and remote.mode != "over":
            yield f"{name} fails", on(lambda w, r: w.fail(r))
            yield f"{name} dies", on(lambda w, r: w.die(r))

    def ticket_steps(self, job: str, ticket: Ticket) -> Iterator[Step]:
        holder = ticket.holder
        if holder is not None:
            (remote,) = [r for r in self.remotes if r.holder.nonce == holder.nonce]
            deaf = remote.mode == "over" and not remote.wire
            if deaf or self.faults:
                yield f"{job[0]}'s holder is revoked", lambda w: w.revoke(job, not deaf)
                yield f"{job[0]}'s holder falls silent", lambda w: w.silence(job, not deaf)
        elif self.messages[ticket.postings.newest.message].gone:
            yield f"{job[0]} is looked for", lambda w: w.look(job)
        if self.faults:
            yield f"{job[0]}'s client leaves", lambda w: w.leave(job)

    # The steps themselves

    def deliver(self, message: Message, begins: bool) -> None:
        stored = self.messages[message]
        stored.free, stored.deliveries = False, stored.deliveries + 1
        number = len(self.remotes)
        holder = Holder(f"h{number}", stored.deliveries, 1000 + number)
        holder.ack, holder.begins = f"ack.{number}", begins
        self.remotes.append(Remote(message, holder, message))
        self.remotes[-1].claim()

    def run_out(self, message: Message) -> None:
        self.faults -= not self.is_left(message)
        stored = self.messages[message]
        stored.free = not stored.gone

    def take(self, first: str) -> None:
        """A claim that was sent to another ingress is for a job of here."""
        number = len(self.remotes)
        holder = Holder(f"h{number}", 1, 1000 + number)
        holder.ack = f"ack.{number}"
        self.remotes.append(Remote(FOREIGN, holder, FOREIGN))
        self.queue.first, self.queue.returned = first, True
        offer = Offer("in-2", "m", "i", "", 0.0, False, FOREIGN[0], b"")
        if not self.claims.take(offer, holder.claim(), START):
            self.remotes[-1].mode = "over"
        self.queue.first, self.queue.returned = JOBS[0], False

    def taken(self, remote: Remote) -> None:
        remote.offered, remote.mode = False, "elsewhere"
        self.claims.gone(remote.job[0], self.claim_of(remote), START)

    def alone(self, remote: Remote, first: str, late: bool = False) -> None:
        """Nobody took the slot; or, if `late`, somebody did after that was believed."""
        remote.offered = False
        if late:
            self.faults -= 1
            remote.mode = "elsewhere"
        self.queue.first = first
        if not self.claims.hear(remote.job[0], self.claim_of(remote), START, alone=True):
            self.tell_gone(remote)
        self.queue.first = JOBS[0]

    def claim_of(self, remote: Remote) -> Frame:
        frame = remote.holder.claim()
        return frame._replace(body=(*frame.body[:5], remote.job[1], False))

    def ends_elsewhere(self, remote: Remote, over: bool) -> None:
        remote.mode = "over"
        self.settle(remote, over)

    def hear(self, remote: Remote, first: str, offers: bool = False) -> None:
        self.queue.first, self.queue.offers = first, offers
        frames = remote.wire.pop(0)
        for frame in frames:
            if frame.kind != Kind.CLAIM:
                if (ticket := self.tickets.get(remote.job[0])) is not None:
                    ticket.frame(frame, START)
                continue
            job, before = remote.job[0], len(remote.told)
            if not self.claims.hear(job, frame, START):
                self.tell_gone(remote)
            remote.offered = offers and len(remote.told) == before
        self.queue.first, self.queue.offers = JOBS[0], False

    def tell_gone(self, remote: Remote) -> None:
        if (Op.GONE, ("", 0)) not in remote.told:
            remote.told.append((Op.GONE, ("", 0)))

    def lose(self, queue: list[Any]) -> None:
        self.faults -= 1
        queue.pop(0)

    def double(self, wire: list[list[Frame]]) -> None:
        self.faults -= 1
        wire.insert(0, wire[0])

    def obey(self, remote: Remote) -> None:
        op, given = remote.told.pop(0)
        if remote.mode == "over":
            return
        if remote.mode == "elsewhere":
            if op in (Op.GO, Op.GIVE):  # it is refused: another ingress' job has the slot
                remote.wire.append([remote.holder.fail(0, "client_gone", False)])
                remote.job = given if op is Op.GIVE else remote.job
            return
        if op in (Op.GO, Op.GIVE):
            if remote.mode == "claims" and not (op is Op.GIVE and remote.holder.begins):
                remote.mode = "works"
                remote.job = given if op is Op.GIVE else remote.job
                self.end(remote)
        elif op != Op.RESEND:
            remote.mode = "over"
            if op != Op.DROP:
                self.settle(remote, over=op != Op.LEAVE)

    def answer(self, remote: Remote) -> None:
        made = [remote.holder.start(), remote.holder.data(1, remote.job[0].encode())]
        remote.wire.append([*made, remote.holder.end(2)])
        remote.ended = True
        self.end(remote)

    def end(self, remote: Remote) -> None:
        """What is answered and granted is acked."""
        if remote.ended and remote.mode == "works":
            remote.mode = "over"
            self.settle(remote, over=True)

    def fail(self, remote: Remote) -> None:
        self.faults -= 1
        remote.wire.append([remote.holder.fail(0)])
        remote.mode = "over"
        self.settle(remote, over=False)

    def die(self, remote: Remote) -> None:
        self.faults -= 1
        remote.mode, remote.wire, remote.told = "over", [], []

    def revoke(self, job: str, fault: bool) -> None:
        self.faults -= fault
        self.tickets[job].revoke("silent", START)

    def silence(self, job: str, fault: bool) -> None:
        self.faults -= fault
        holder = self.tickets[job].holder
        assert holder is not None
        holder.heard = 0.0

    def look(self, job: str) -> None:
        ticket = self.tickets[job]
        ticket.vanished(ticket.postings.newest.sequence, START)

    def leave(self, job: str) -> None:
        self.faults -= 1
        self.close(job, self.tickets[job])

    def close(self, job: str, ticket: Ticket) -> None:
        """As `Dispatch.close`."""
        del self.tickets[job]
        self.queue.waiting.discard(job)
        self.claims.forget(job)
        ticket.close()
        self.ended.append(job)

    def after(self) -> None:
        for message in self.fresh:
            ticket, edition = self.claims.find(*message)
            if ticket is not None:
                ticket.postings.stored(edition, list(self.messages).index(message) + 1)
        self.fresh.clear()
        for job, ticket in list(self.tickets.items()):
            if ticket.received.take() not in (b"", job.encode()):
                self.gone_wrong = f"{job[0]} has the answer of another"
            if ticket.done:
                self.close(job, ticket)
        self.check()

    def check(self) -> None:
        had = [ticket.postings.newest.message for ticket in self.tickets.values()]
        if len(set(had)) < len(had):
            self.gone_wrong = "two jobs have one message"
        for job, waits in self.tickets.items():
            if waits.holder is None and waits.postings.newest.unsent:
                self.gone_wrong = f"{job[0]} waits and has no message"
        for remote in self.remotes:
            ticket = self.tickets.get(remote.job[0])
            if remote.mode != "works" or ticket is None:
                continue
            custody, nonce = ticket.custody, remote.holder.nonce
            if not custody.is_granted(nonce) and not custody.is_former(nonce):
                self.gone_wrong = f"{remote.holder.name} works on {remote.job[0][0]} unknown"
        left = self.owners, self.guests, self.stays, any(self.had.values())
        if not self.tickets and any(left):
            self.gone_wrong = "what was exchanged is never forgotten"

    @property
    def over(self) -> bool:
        return not self.tickets

    def check_end(self) -> None: ...

    def is_edge(self) -> bool:
        """Whether nobody is left who could take a message."""
        waits = any(
            stored.free or (stored.deliveries and self.is_left(message))
            for message, stored in self.messages.items()
        )
        return waits and len(self.remotes) >= self.most


search_world.register(SwapWorld)
