"""What a ticket knows of its job: its terms, when things happened, which messages of the job are in
the broker's stream, and what has been received for the client. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import astuple, dataclass, replace
from math import inf
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

from ingress.jobs.resume import ResumableStream
from ingress.models.pins import Pin
from schemas import subjects
from schemas.api import sse
from schemas.api.base import PLAIN, WHOLE, Outline
from schemas.api.endpoints import APIS
from schemas.errors import HeadraceError
from schemas.frames import COST, MOST_NOTES, NOTED, SERVED_BY, End, Start
from schemas.jobs import Begun, Job

UNHEARD = 64 * 1024
"""Bytes of events that are kept of each stream until they are read."""
LOOK_EACH = 0.5
"""Seconds between two looks for a better node."""
FLIGHT = 0.5
"""Seconds within which a message is claimed once one behind it is, unless its worker is frozen."""
TAIL = 2048
"""Last bytes of an answer, in which the reason is looked for why it ended."""
_PRINTABLE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")  # % begins an escape


class Resumers(NamedTuple):
    """Who may continue a stream that breaks. `thoughts`: workers may do so behind thoughts, too."""

    workers: bool = False
    providers: bool = False
    thoughts: bool = False

    @property
    def exist(self) -> bool:
        return self.workers or self.providers


NOBODY = Resumers()


@dataclass(slots=True)
class Terms:
    """What is settled before a job is published. `may_leave`: a provider may take the job if no
    worker does. `hedge_after`: seconds that a worker has for the first byte before a provider is
    asked, too; 0.0: never. `weight`: the account's share of a queue. `lane`: the one that was asked
    for, in whose depth the job counts to its end, or until it is moved to another node. `pin`: the
    nodes that may have the job; None: all. `outline`: of a request whose stream may go on."""

    max_attempts: int
    may_leave: bool = False
    hedge_after: float = 0.0
    resumers: Resumers = NOBODY
    weight: float = 1.0
    lane: str = subjects.INTERACTIVE
    pin: Pin | None = None
    outline: Outline = WHOLE

    def home_of(self, lane: str) -> str:
        """The lane for a job in `lane`, which may be that of a node for its cache alone."""
        strays = self.pin is None and subjects.is_pinned(lane)
        return subjects.INTERACTIVE if strays else lane


@dataclass(slots=True)
class Times:
    """When things happened last, in monotonic seconds; 0.0: not yet. `posted`: the newest edition
    was published. `freed`: the job lost its holder, or was queued. `claimed`: a holder got it.
    `first`: the answer began. `offered`: providers were called. `sought`: the ingress looked for
    the job's message in the stream. `repeated`: the newest edition was published again. `looked`:
    the ingress looked for a better node."""

    queued: float
    posted: float
    freed: float
    claimed: float = 0.0
    first: float = 0.0
    offered: float = 0.0
    sought: float = 0.0
    repeated: float = 0.0
    looked: float = 0.0

    def seek(self, now: float) -> None:
        """The job's message is being looked for in the stream."""
        self.sought = now

    def may_look(self, now: float) -> bool:
        """Whether it is time to look for a better node. If so, this counts as having looked."""
        if now - self.looked < LOOK_EACH:
            return False
        self.looked = now
        return True


Message = tuple[str, int]
"""A message in the stream, by what it holds: a job's id, and the edition. It stays the message of
that job unless two jobs exchange theirs."""


class Stream(Protocol):
    def publish(self, job: Job) -> None:
        """Publish another edition of the job."""

    def delete(self, sequence: int) -> None:
        """Delete the message, so that nobody gets it any more."""


@dataclass(slots=True)
class Posting:
    """One message of a job. `edition`: its number. `message`: what the message holds. `sequence`:
    where the broker keeps it; 0 until the broker has said so. `fence`: claims for deliveries up to
    this one are refused. `expires`: when the broker drops it, in monotonic seconds: that is by the
    deadline of the job that it was published with. `unsent`: it is published only if the slot is
    lost that the job has by a message of another ingress."""

    edition: int
    lane: str
    message: Message
    sequence: int = 0
    fence: int = 0
    expires: float = inf
    unsent: bool = False
    passed: float = 0.0
    """When a claim was heard first of a message behind this one, which nobody had claimed."""

    def in_flight(self, sequence: int, now: float) -> bool:
        """Whether somebody is about to claim this message, and may have begun its job: the broker
        gives them out in order, and one at `sequence` is claimed already."""
        if self.fence or not 0 < self.sequence < sequence:
            return False
        self.passed = self.passed or now
        return now - self.passed < FLIGHT

    def granted(self, delivery: int) -> None:
        """Raise the fence, by one at most: a claim with a made-up count must not lock out the
        deliveries after it. `delivery` may be higher, as not every delivery is claimed."""
        if not self.unsent:  # else it is the count of the other's message
            self.fence = min(delivery, self.fence + 1)


class Postings:
    """The messages of a job in the stream. There are several if the job was hedged, moved or lost.
    `newest`: the last publish, apart from the copy. `job`: the job as it says. `copy`: the publish
    of a hedged job for providers alone, while a worker has the job."""

    def __init__(self, job: Job, stream: Stream) -> None:
        self.job = job
        self.newest = Posting(job.edition, job.lane, (job.id, job.edition))
        self.copy: Posting | None = None
        self._stream = stream
        self._last = job.edition
        """The last number given. None is given twice, so that a claim means one edition."""

    def of(self, edition: int) -> Posting | None:
        """None if that edition is over, or never was."""
        if edition == self.newest.edition:
            return self.newest
        return self.copy if self.copy is not None and self.copy.edition == edition else None

    def begin_at(self, begun: Begun | None) -> None:
        """The answer goes on from there. For a job that is not published yet."""
        self.job = replace(self.job, begun=begun)

    def publish_copy(self) -> None:
        self.copy = self._publish(lane=subjects.CLOUD, first_by=self.job.total_by)[1]

    def publish_anew(self, **changed: Any) -> None:
        """Publish a new edition in place of the newest."""
        self._delete(self.newest)
        self.job, self.newest = self._publish(**changed)

    def move(self, begun: Begun | None) -> None:
        """Leave the job to providers alone, for good."""
        self.delete_copy()
        self.copy = None
        self.publish_anew(lane=subjects.CLOUD, first_by=self.job.total_by, begun=begun)

    def stored(self, edition: int, sequence: int, expires: float = inf) -> None:
        """The broker keeps `edition` at `sequence`. `expires`: until when."""
        if (posting := self.of(edition)) is not None:
            if not posting.sequence:  # else it may be another's by now, which ends otherwise
                posting.expires = expires
            posting.sequence, posting.unsent = sequence, False
        elif 0 <= edition <= self._last:  # the edition was replaced before the broker answered
            self._stream.delete(sequence)

    def exchange(self, other: Postings) -> None:
        """Each of two jobs has the newest message of the other from now on, as a new edition. So a
        slot that was claimed with one is for the other, and each still has one message."""
        mine, theirs = self.newest, other.newest
        self._have(theirs)
        other._have(mine)

    def go_with_another(self) -> None:
        """The job has a slot by a message of another ingress' job. Its own is deleted."""
        self._delete(self.newest)
        self._last += 1
        self.job, lane = replace(self.job, edition=self._last), self.newest.lane
        self.newest = Posting(self._last, lane, (self.job.id, self._last), unsent=True)

    def send_unsent(self, lane: str) -> bool:
        """The slot is lost: publish the newest edition if it was not, or anew if it is to wait in
        another `lane`. Returns whether something was published."""
        if lane != self.newest.lane:
            self.publish_anew(lane=lane)
            return True
        if unsent := self.newest.unsent:
            self.newest.unsent = False
            self._stream.publish(self.job)
        return unsent

    def _have(self, message: Posting) -> None:
        self._last += 1
        self.newest = replace(message, edition=self._last)
        self.job = replace(self.job, edition=self._last, lane=message.lane)

    def delete_copy(self) -> None:
        if self.copy is not None:
            self._delete(self.copy)

    def delete_newest(self) -> None:
        self._delete(self.newest)

    def _publish(self, **changed: Any) -> tuple[Job, Posting]:
        self._last += 1
        job = replace(self.job, edition=self._last, **changed)
        self._stream.publish(job)
        return job, Posting(job.edition, job.lane, (job.id, job.edition))

    def _delete(self, posting: Posting) -> None:
        if posting.sequence:
            self._stream.delete(posting.sequence)


class Received:
    """What has been received for a job. `head`: the upstream's status and content type. `notes`:
    what the answer's head, or the log, should say besides. `ended` or `error`: how the job ended.
    `buffered`: bytes that were not taken yet. `seen`: the client may have a part of the answer, so
    no other attempt can begin it. `paid`: the answer comes from a provider."""

    __slots__ = (
        "_api", "_kept", "_pieces", "_resumes", "_size", "_stream", "_taken", "_thoughts",
        "buffered", "ended", "error", "head", "notes", "paid", "seen",
    )  # fmt: skip

    def __init__(self, endpoint: str, resumes: bool = False, thoughts: bool = False) -> None:
        """`resumes`: a stream may be continued. `thoughts`: behind thoughts, too."""
        self.head: Start | None = None
        self.notes: dict[str, str] = {}
        self.ended: End | None = None
        self.error: HeadraceError | None = None
        self.buffered = self._size = 0
        self.seen = self.paid = False
        self._pieces: deque[bytes] = deque()
        self._api = APIS.get(endpoint, PLAIN)
        self._resumes, self._thoughts = resumes, thoughts
        self._taken = b"", b""
        """The two pieces that were taken last."""
        self._kept: list[bytes] | None = [] if resumes else None
        """What the client gets and `_stream` has not heard yet; None if nothing is continued."""
        self._stream: ResumableStream | None = None

    @property
    def done(self) -> bool:
        return self.ended is not None or self.error is not None

    def served_by(self, node: str | None) -> dict[str, str]:
        """Who answers and at what cost, as headers; empty while nobody does. `node`: the worker's,
        if a worker answers."""
        if self.notes:
            return {name: plain(value) for name, value in self.notes.items() if _is_ours(name)}
        return {} if node is None else {SERVED_BY: f"node:{plain(node)}", COST: "0"}

    @property
    def owed(self) -> bool:
        """Whether a provider's text waits for the client. The client pays for this text, so it gets
        the text before any error."""
        return self.paid and self.buffered > 0 and self.head is not None and self.head.status == 200

    @property
    def begun(self) -> Begun | None:
        """What the next holder has to continue, once the stream broke."""
        return self._stream.begun if self._stream is not None else None

    @property
    def resuming(self) -> bool:
        """Whether the stream broke, and somebody else gives the rest."""
        return self.begun is not None

    @property
    def providable(self) -> bool:
        """Whether a provider, which takes no begun thoughts, can go on with the stream."""
        return self._stream is None or self._stream.providable

    def for_provider(self) -> Begun | None:
        """What a provider has to continue, once the stream broke."""
        return self._stream.for_provider() if self._stream is not None else None

    def note(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Keep the first `MOST_NOTES` names: they become headers, whoever chose them."""
        for name, value in pairs:
            if name in self.notes or len(self.notes) < MOST_NOTES:
                self.notes[name] = value

    def add(self, piece: bytes) -> None:
        if self._kept is not None:
            if self._stream is not None and self._stream.begun is not None:
                piece = self._stream.follow(piece, self.paid)
            self._kept.append(piece)
            self._size += len(piece)
            if self._size > UNHEARD:
                self._hear()
        self._pieces.append(piece)
        self.buffered += len(piece)

    def take(self) -> bytes:
        """What came since the last call. Once this gave bytes, no other attempt can begin."""
        if not self._pieces:
            return b""
        self.seen = True
        self.buffered = 0
        found = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._taken = self._taken[1], found
        return found

    def take_parts(self) -> list[bytes]:
        """The same of a document, not joined: it may be large."""
        found = list(self._pieces)
        self._pieces.clear()
        self._taken = b"", b"".join(piece[-TAIL:] for piece in found[-2:])
        self.seen, self.buffered = True, 0
        return found

    @property
    def tail(self) -> bytes:
        """The end of what was taken: two pieces, or of a document `TAIL` bytes at least."""
        return b"".join(self._taken)

    def forget(self) -> None:
        """Drop all of an attempt that was lost before the client saw anything of it."""
        self.head = None
        self.notes.clear()
        self._pieces.clear()
        self.buffered = self._size = 0
        if self._resumes:
            self._kept, self._stream = [], None  # the next attempt may be one that can go on

    def complete(self, outline: Outline) -> bool:
        """The holder was lost after the client saw a part: whether the answer says that it is
        whole. Then it has ended, and its last events are added if they are missing."""
        # The finish reason, the usage and the end may have come in several pieces.
        tail = b"".join((*self._taken, *self._pieces))
        ended = sse.end_of(tail) >= 0
        end = b"" if ended else self._api.missing_end(tail) or self._closing(outline)
        if not end and not ended:
            return False
        told = [usage for found in sse.objects(tail) if (usage := self._api.usage(found))]
        self.ended = End(*astuple(told[-1])) if told else End()
        if end:
            self._pieces.append(end)
            self.buffered += len(end)
        return True

    def _closing(self, outline: Outline) -> bytes:
        if self._kept is None:
            return b""
        self._hear()
        return self._stream.closing(outline) if self._stream is not None else b""

    def break_off(self, outline: Outline) -> bool:
        """The holder was lost after the client saw a part: whether that can be continued."""
        if self._kept is None:
            return False
        self._hear()
        return self._stream is not None and self._stream.break_off(outline)

    def _hear(self) -> None:
        """Keep only the text of the events, which is a small part of their bytes."""
        if self._stream is None:
            self._stream = ResumableStream(self._api, self._thoughts)
        self._stream.hear(self._kept or ())
        self._kept = [] if self._stream.plain else None
        self._size = 0


def plain(text: str) -> str:
    """`text` as a header's value: what is not printable ASCII is escaped as in URLs."""
    return text if text.isascii() and text.isprintable() else quote(text, safe=_PRINTABLE)


def _is_ours(name: str) -> bool:
    return name.startswith(NOTED) and name.isascii() and name.replace("-", "").isalnum()
