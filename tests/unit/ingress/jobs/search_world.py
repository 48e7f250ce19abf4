"""A small world around one real ticket, whose every next step can be listed, taken and undone.

A state is the pickled world, so taking a step costs a copy, and equal states are found. Time only
matters as ages, so all times are moved back after each step, and old ones are the same age.
Holders, network and broker do what real ones do; `faults` bounds what goes wrong on one path:
messages that are lost, doubled or overtaken, leases that run out, programs that fail or die, and a
broker that delivers what was deleted.
"""

from __future__ import annotations

import copyreg
import io
import pickle
from collections import deque
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from fallback.credits.entries import EntryKind
from ingress.jobs import custody
from ingress.jobs.custody import Custody
from ingress.jobs.resume import ResumableStream
from ingress.jobs.state import Posting, Postings, Received, Terms, Times
from ingress.jobs.ticket import Ticket
from ingress.jobs.watch import RESTORE_AFTER
from schemas import subjects
from schemas.api import sse
from schemas.api.base import Api
from schemas.api.chat.continuation import Continuation
from schemas.api.endpoints import APIS
from schemas.api.sse import Joiner
from schemas.errors import EngineFailed, StreamInterrupted
from schemas.frames import Claim, End, Frame, Kind, Op, Role, Start
from schemas.jobs import Job
from tests.unit.ingress.jobs import recorder
from tests.unit.ingress.jobs.recorder import START, FallbackHolder, Holder
from tests.unit.ingress.jobs.search_books import Books

WORDS = 2
TICK = 2.0
"""Seconds of a step in which time passes: more than a holder may be silent unsuspected."""
SILENCE = 3.0
"""Seconds of silence after which an ingress takes a job from its holder (the default)."""
LONG_AGO = START - 3 * TICK
"""What is older is as old as this."""

Step = tuple[str, Callable[["World"], None]]


def chunk(number: int) -> bytes:
    """The chunk of one word; the last one ends the stream."""
    last = number == WORDS - 1
    choice = {"index": 0, "delta": {"content": f"w{number} "}, "finish_reason": last or None}
    choice["finish_reason"] = "stop" if last else None
    return sse.dump({"choices": [choice]}) + (sse.DONE if last else b"")


@dataclass
class Message:
    """A message of the broker's stream. `free`: it waits to be delivered. `gone`: it was acked, or
    deleted; the broker may still deliver one that is `gone` once, as a fault."""

    lane: str
    deliveries: int = 0
    free: bool = True
    gone: bool = False


@dataclass
class Remote:
    """A holder of one delivery. `mode`: claims, works, or over."""

    holder: Holder
    first: int
    """The number of its first word."""
    mode: str = "claims"
    sent: list[Frame] = field(default_factory=list)
    wire: list[list[Frame]] = field(default_factory=list)
    """Messages under way, each of one or more frames."""
    told: list[tuple[Op, int]] = field(default_factory=list)
    """What was said to it and has not come yet."""

    @property
    def by_provider(self) -> bool:
        return isinstance(self.holder, FallbackHolder)

    @property
    def turn(self) -> int:
        return self.holder.edition << 16 | self.holder.attempt

    def send(self, *frames: Frame) -> None:
        self.sent += frames
        self.wire.append([*frames])

    def next_frames(self) -> list[Frame]:
        """The next word, with the head before the first one, and the end behind the last one."""
        number = len(self.sent)
        word = self.first + max(0, number - 1)
        made = [self.holder.start()] if number == 0 else []
        if word < WORDS:
            made.append(self.holder.data(number + len(made), chunk(word)))
        if word >= WORDS - 1:
            made.append(self.holder.end(number + len(made)))
        return made


class World:
    """Also the `Effects` of its ticket."""

    def __init__(
        self,
        faults: int,
        remotes: int,
        reads: bool = True,
        one_worker: bool = False,
        lane: str = subjects.INTERACTIVE,
        **terms: Any,
    ) -> None:
        """`reads`: the client reads at once, so that nothing can begin anew; else at the end.
        `one_worker`: the same takes the job each time, and others are there and too busy."""
        self.one_worker = one_worker
        self.faults = faults
        self.reads = reads
        self.most = remotes
        self.messages = {0: Message(lane)}
        self.remotes: list[Remote] = []
        self.taken = b""
        self.letters = 0
        self.books = Books()
        self.gone_wrong = ""
        """An invariant that a step broke."""
        self.fresh: list[int] = []
        self.ticket: Ticket = recorder.ticket(self, lane=lane, **terms)  # type: ignore[arg-type]
        self.ticket.postings.stored(0, 1)

    # What the ticket does

    def say(self, holder: str, op: Op, job: str, nonce: int, first: int = 0) -> None:
        for remote in self.remotes:
            if remote.holder.nonce == nonce and (op, first) not in remote.told:
                remote.told.append((op, first))

    def verdict(self, ack: str, word: bytes) -> None:
        for remote in self.remotes:
            if remote.holder.ack == ack:
                self.settle(remote, word == b"+TERM")

    def others(self, job: Job, holders: AbstractSet[str]) -> bool:
        return self.one_worker

    def served(self, job: Job) -> None: ...

    def lost(self, job: Job, since: float) -> None: ...

    def publish(self, job: Job) -> None:
        self.messages[job.edition] = Message(job.lane)
        self.fresh.append(job.edition)

    def delete(self, sequence: int) -> None:
        if (message := self.messages.get(sequence - 1)) is not None:
            message.gone, message.free = True, False

    def dead_letter(self, job: Job, error: str) -> None:
        self.letters += 1

    def settle(self, remote: Remote, over: bool) -> None:
        """The broker hears what became of a delivery: also of one that is not the latest."""
        message = self.messages[remote.holder.edition]
        message.gone = message.gone or over
        current = message.deliveries == remote.holder.attempt
        message.free = not message.gone and (message.free or (current and not over))

    # What may happen next

    def steps(self) -> Iterator[Step]:
        yield from self.deliveries()
        for index, remote in enumerate(self.remotes):
            yield from remote_steps(self, index, remote)
        yield from self.ingress_steps()

    def deliveries(self) -> Iterator[Step]:
        if len(self.remotes) >= self.most:
            return
        for edition, message in self.messages.items():
            cloud = message.lane == subjects.CLOUD
            if subjects.is_pinned(message.lane) and message.deliveries:
                continue  # its only worker has gone
            if message.free and not cloud:
                yield f"worker gets {edition}", lambda w, e=edition: w.deliver(e, Holder)  # type: ignore[misc]
            if message.free and self.ticket.terms.may_leave and (cloud or self.ticket.wanted):
                yield (
                    f"fallback gets {edition}",
                    lambda w, e=edition: w.deliver(e, FallbackHolder),  # type: ignore[misc]
                )
            if (
                message.deliveries
                and not message.free
                and (self.faults or self.is_left(edition, message))
            ):
                yield f"lease of {edition} runs out", lambda w, e=edition: w.run_out(e)  # type: ignore[misc]

    def is_missed(self) -> bool:
        """Whether the holder has said something that nobody will hear unless it says it again."""
        holder = self.ticket.holder
        return any(
            holder is not None
            and remote.holder.nonce == holder.nonce
            and len(remote.sent) > holder.due
            and not remote.wire
            for remote in self.remotes
        )

    def is_unheard(self, remote: Remote) -> bool:
        """Whether the ticket has not heard of this holder for a while, or not of this nonce."""
        holder = self.ticket.holder
        return holder is None or holder.nonce != remote.holder.nonce or holder.heard < START

    def is_edge(self) -> bool:
        """Whether the world is too small to go on: nobody is left who could take a message."""
        waits = any(
            message.free or self.is_left(edition, message)
            for edition, message in self.messages.items()
        )
        return waits and len(self.remotes) >= self.most

    def ingress_steps(self) -> Iterator[Step]:
        ticket, silence = self.ticket, 0.0
        if ticket.holder is not None:
            silence = START - ticket.holder.heard
            if silence > TICK / 2 and self.is_missed():
                yield "asks again", lambda w: w.ticket.ask_resend(START)
            if silence > SILENCE:
                yield "revokes", lambda w: w.revoke()
        elif ticket.times.claimed and START - ticket.times.freed > RESTORE_AFTER:
            yield "looks for it", World.look
        if ticket.holder is None and ticket.job.lane == subjects.BATCH:
            yield "promotes it", World.promote
        elif ticket.holder is None and not ticket.times.claimed and ticket.lane != ticket.job.lane:
            yield "is not taken there", World.open_to_all
        yield "time passes", World.tick
        if ticket.terms.may_leave:
            yield from self.cloud_steps()

    def cloud_steps(self) -> Iterator[Step]:
        ticket = self.ticket
        alone = ticket.postings.newest.lane == subjects.CLOUD
        if ticket.holder is None and not ticket.wanted and not alone:
            yield "offers it", lambda w: w.ticket.offer(START)
        if not alone and (ticket.exhausted is not None or self.faults) and not ticket.times.first:
            yield "moves it", World.move

    # The steps themselves

    def deliver(self, edition: int, kind: type[Holder]) -> None:
        message = self.messages[edition]
        message.free, message.deliveries = False, message.deliveries + 1
        number = len(self.remotes)
        name = "h" if self.one_worker and kind is Holder else f"h{number}"
        holder = kind(name, message.deliveries, 1000 + number, edition)
        holder.ack = f"ack.{number}"
        begun = self.ticket.job.begun if edition == self.ticket.job.edition else None
        first = len(begun.text.split()) if begun else 0
        self.remotes.append(Remote(holder, first))
        self.remotes[-1].wire.append([holder.claim()])
        if self.remotes[-1].by_provider and not edition and message.deliveries == 1:
            self.books.reserve(self.remotes[-1].turn, first=True)

    def run_out(self, edition: int) -> None:
        message = self.messages[edition]
        self.faults -= not self.is_left(edition, message)
        message.free, message.gone = True, False

    def is_left(self, edition: int, message: Message) -> bool:
        """Whether nobody prolongs the lease: who had the message last has gone."""
        turn = edition, message.deliveries
        over = [(r.holder.edition, r.holder.attempt) for r in self.remotes if r.mode == "over"]
        return turn in over and not message.gone

    def read(self) -> None:
        self.taken += self.ticket.received.take()

    def revoke(self) -> None:
        self.ticket.revoke("silent", START)

    def look(self) -> None:
        newest = self.ticket.postings.newest
        self.ticket.times.seek(START)
        if self.messages[newest.edition].gone:
            self.ticket.vanished(newest.sequence, START)

    def open_to_all(self) -> None:
        self.ticket.publish_again(START)

    def promote(self) -> None:
        self.ticket.publish_again(START, subjects.INTERACTIVE)

    def move(self) -> None:
        self.faults -= self.ticket.exhausted is None
        self.ticket.move(START)

    def tick(self) -> None:
        age(self.ticket, TICK)

    def after(self) -> None:
        """The broker's answers to what was published, and what must hold."""
        for edition in self.fresh:
            self.ticket.postings.stored(edition, edition + 1)
        self.fresh.clear()
        forget_ages(self.ticket)
        if self.reads:
            self.read()
        self.check_holder()
        self.check_text()
        if self.books.charges > 1:
            self.gone_wrong = "charged twice"

    def check_holder(self) -> None:
        """Who works on the job has it, or had it, or has been told to stop."""
        custody = self.ticket.custody
        for remote in self.remotes:
            nonce = remote.holder.nonce
            known = custody.is_granted(nonce) or custody.is_former(nonce)
            if remote.mode == "works" and not known:
                self.gone_wrong = f"{remote.holder.name} works, and nobody knows of it"
        granted = [r for r in self.remotes if custody.is_granted(r.holder.nonce)]
        if sum(remote.by_provider for remote in granted) > 1:
            self.gone_wrong = "two providers have the job"

    def check_text(self) -> None:
        events = list(sse.objects(self.taken))
        words = [event["choices"][0]["delta"].get("content", "") for event in events]
        if words != [f"w{number} " for number in range(len(words))]:
            self.gone_wrong = f"the client has {words}"
        if self.taken.count(sse.DONE) > 1:
            self.gone_wrong = "the stream ended twice"

    @property
    def over(self) -> bool:
        return self.ticket.done

    def check_end(self) -> None:
        received = self.ticket.received
        if received.ended is not None:
            self.read()
            self.check_text()
            holder = self.ticket.holder
            if holder is not None and holder.claim.by_provider and self.books.charges != 1:
                self.gone_wrong = "a provider's answer was not charged"
            if not self.taken.endswith(sse.DONE) or f"w{WORDS - 1}".encode() not in self.taken:
                self.gone_wrong = "the answer ended before its end"
        if self.letters > 1:
            self.gone_wrong = "two dead letters"


def remote_steps(world: World, index: int, remote: Remote) -> Iterator[Step]:
    name, faults = remote.holder.name, world.faults

    def on(act: Callable[[World, Remote], None]) -> Callable[[World], None]:
        return lambda w: act(w, w.remotes[index])

    if remote.wire:
        yield f"{name} is heard", on(_hear)
        if faults:
            yield f"{name}'s frame is lost", on(_lose)
            yield f"{name}'s frame comes twice", on(_twice)
        if faults and len(remote.wire) > 1:
            yield f"{name}'s frame is overtaken", on(_overtaken)
    if remote.told:
        yield f"{name} hears", on(_obey)
        if faults:
            yield f"{name} does not hear", on(_deaf)
    if remote.mode == "claims" and not remote.wire and not remote.told:
        yield f"{name} claims again", on(lambda w, r: r.wire.append([r.holder.claim()]))
    if remote.mode == "works" and (not remote.wire or faults):
        yield f"{name} speaks", on(_speak)
    if remote.mode == "works" and not remote.wire and not remote.told and world.is_unheard(remote):
        yield f"{name} is alive", on(_alive)
    if remote.mode == "works" and faults:
        yield f"{name} fails", on(_fail)
    if faults and remote.mode != "over":
        yield f"{name} dies", on(_die)
    if remote.mode == "over" and remote.sent and not remote.wire and not remote.told:
        yield f"{name} is asked still", on(_linger)


def _hear(world: World, remote: Remote, index: int = 0) -> None:
    for frame in remote.wire.pop(index):
        world.ticket.frame(frame, START)


def _lose(world: World, remote: Remote) -> None:
    world.faults -= 1
    remote.wire.pop(0)


def _twice(world: World, remote: Remote) -> None:
    world.faults -= 1
    for frame in remote.wire[0]:
        world.ticket.frame(frame, START)


def _overtaken(world: World, remote: Remote) -> None:
    world.faults -= 1
    _hear(world, remote, 1)


def _deaf(world: World, remote: Remote) -> None:
    world.faults -= 1
    remote.told.pop(0)


def _obey(world: World, remote: Remote) -> None:
    op, first = remote.told.pop(0)
    if op == Op.GO and remote.mode == "claims":
        remote.mode = "works"
        if remote.by_provider and not world.books.reserve(remote.turn, _is_first(remote)):
            remote.mode = "over"
    elif op == Op.RESEND:
        again = [frame for frame in remote.sent if frame.seq >= first]
        remote.wire = remote.wire or [again] * bool(again)
    elif op == Op.LEAVE:
        remote.mode = "over"
        world.books.close(remote.turn, charge=False)
        world.settle(remote, over=False)
    elif op != Op.GO:
        deserted = remote.mode == "works" and op in (Op.CANCEL, Op.GONE)
        world.books.close(remote.turn, deserted)
        remote.mode = "over"


def _is_first(remote: Remote) -> bool:
    return not remote.holder.edition and remote.holder.attempt == 1


def _speak(world: World, remote: Remote) -> None:
    remote.send(*remote.next_frames())
    if remote.sent[-1].kind == Kind.END:
        world.books.close(remote.turn, charge=True)  # before the end is sent
        remote.mode = "over"
        world.settle(remote, over=True)


def _alive(world: World, remote: Remote) -> None:
    world.ticket.frame(remote.holder.alive(len(remote.sent)), START)


def _fail(world: World, remote: Remote) -> None:
    world.faults -= 1
    remote.send(remote.holder.fail(len(remote.sent)))
    world.books.close(remote.turn, charge=False)
    remote.mode = "over"
    world.settle(remote, over=False)


def _die(world: World, remote: Remote) -> None:
    """With what it would have said; its lease runs out."""
    world.faults -= 1
    remote.mode, remote.wire, remote.told, remote.sent = "over", [], [], []
    message = world.messages[remote.holder.edition]
    last = message.deliveries == remote.holder.attempt
    message.free = message.free or (last and not message.gone)


def _linger(world: World, remote: Remote) -> None:
    """A holder keeps its last frames for a while, and says that it does."""
    world.ticket.frame(remote.holder.alive(len(remote.sent)), START)


def age(ticket: Ticket, seconds: float) -> None:
    """Let be `seconds` older what is asked for its age."""
    ticket.times.freed = max(ticket.times.freed - seconds, LONG_AGO)
    for holder in (ticket.custody.holder, ticket.custody.hedge):
        if holder is not None:
            holder.heard = max(holder.heard - seconds, START - 2 * TICK)
            holder._asked = 0.0


def forget_ages(ticket: Ticket) -> None:
    """Of these times it only matters whether there is one."""
    times = ticket.times
    for name in ("queued", "posted", "claimed", "first", "offered", "sought"):
        setattr(times, name, LONG_AGO if getattr(times, name) else 0.0)


# States as bytes


_current: list[Any] = []
"""The world whose state is being read or written: its ticket refers to it."""


_PATHS: dict[int, str] = {id(api): path for path, api in APIS.items()}


def _the_world() -> Any:
    return _current[0]


def _the_api(path: str) -> Api:
    return APIS[path]


def _by_fields(kind: type) -> Callable[[Any], tuple[Any, ...]]:
    """Much faster than what dataclasses with slots do themselves."""
    values = attrgetter(*kind.__dataclass_fields__)  # type: ignore[attr-defined]
    return lambda one: (kind, values(one))


_REDUCERS: dict[type, Callable[[Any], Any]] = {
    **{kind: _by_fields(kind) for kind in (Job, Claim, Terms, Times, Message, Books)},
    **{type(api): lambda api: (_the_api, (_PATHS[id(api)],)) for api in APIS.values()},
    World: lambda world: (_the_world, ()),
}


def _by_number() -> None:
    """Let states name by numbers what they hold: to look names up takes a third of the time."""
    named: tuple[Any, ...] = (
        _the_world, _the_api, Remote, Message, Books, Holder, FallbackHolder, deque,
        Job, Frame, Claim, Start, End, Op, Role, Joiner, Continuation, EngineFailed,
        StreamInterrupted, Ticket, Terms, Times, Posting, Postings, Received, Custody,
        custody.Holder, ResumableStream, EntryKind,
    )  # fmt: skip
    for number, one in enumerate(named, _FIRST):
        copyreg.add_extension(one.__module__, one.__qualname__, number)


_FIRST = 128
"""Numbers from here on, up to 255, are a program's own (PEP 307)."""
_by_number()


def register(kind: type) -> None:
    """Let worlds of another kind be searched through, too: their tickets refer to them."""
    _REDUCERS[kind] = _REDUCERS[World]


def frozen(world: Any) -> bytes:
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, 5)
    pickler.dispatch_table = _REDUCERS
    pickler.fast = True  # nothing is shared, and equal states look equal
    pickler.dump(world.__dict__)
    return buffer.getvalue()


def thawed(state: bytes, kind: type[Any] = World) -> Any:
    world = object.__new__(kind)
    _current[:] = [world]
    world.__dict__.update(pickle.loads(state))
    return world
