"""What a ticket knows of its job: what was settled before, and when things happened; what of it is
in the broker's stream; what has come of it, for whoever answers its client. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Any, Protocol
from urllib.parse import quote

from ingress.jobs.resume import ResumableStream
from schemas import subjects
from schemas.errors import HeadraceError
from schemas.frames import COST, NOTED, SERVED_BY, End, Start
from schemas.jobs import Begun, Job

_PRINTABLE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


@dataclass(frozen=True, slots=True)
class Terms:
    """What is settled before a job is published. `may_leave`: a provider may take it once no worker
    does. `hedge_after`: seconds that a worker has for the first byte before a provider is asked,
    too; none is if 0.0. `resumable`: a provider may continue its stream if that breaks."""

    max_attempts: int
    may_leave: bool = False
    hedge_after: float = 0.0
    resumable: bool = False


@dataclass(slots=True)
class Times:
    """When things happened, in monotonic seconds; 0.0 for what has not. `posted`: its newest
    edition was. `freed`: since then nobody holds it. `first`: the answer began. `offered`:
    providers were called. `sought`: its message was looked for."""

    queued: float
    posted: float
    freed: float
    claimed: float = 0.0
    first: float = 0.0
    offered: float = 0.0
    sought: float = 0.0


class Stream(Protocol):
    def publish(self, job: Job) -> None:
        """Another edition of the job."""

    def delete(self, sequence: int) -> None:
        """Nobody is to have that message any more."""


@dataclass(slots=True)
class Posting:
    """One publish. `edition`: its number. `sequence`: where the broker keeps it; 0 until it has
    said so. `fence`: deliveries up to this one are over."""

    edition: int
    lane: str
    sequence: int = 0
    fence: int = 0

    def granted(self, delivery: int) -> None:
        """Each delivery counts one more, and some are never heard of. But who claims with a made-up
        count must not lock out those that come after: so the fence rises by one."""
        self.fence = min(delivery, self.fence + 1)


class Postings:
    """What of a job is in the stream: it is published more than once if it is hedged, moved or
    lost. `job`: as it was published last, apart from the copy. `newest`: that publish. `copy`: one
    for providers alone beside the worker that has the job, if it was hedged."""

    def __init__(self, job: Job, stream: Stream) -> None:
        self.job = job
        self.newest = Posting(job.edition, job.lane)
        self.copy: Posting | None = None
        self._stream = stream
        self._last = job.edition
        """No number is given twice, so that an answer or a claim is of one edition."""

    def of(self, edition: int) -> Posting | None:
        """None if that edition is over, or never was."""
        if edition == self.newest.edition:
            return self.newest
        return self.copy if self.copy is not None and self.copy.edition == edition else None

    def publish_copy(self) -> None:
        self.copy = self._publish(lane=subjects.CLOUD, first_by=self.job.total_by)[1]

    def publish_anew(self, **changed: Any) -> None:
        """In place of the newest, which nobody is to have any more."""
        self._delete(self.newest)
        self.job, self.newest = self._publish(**changed)

    def move(self, begun: Begun | None) -> None:
        """To providers alone, for good."""
        self.delete_copy()
        self.copy = None
        self.publish_anew(lane=subjects.CLOUD, first_by=self.job.total_by, begun=begun)

    def stored(self, edition: int, sequence: int) -> None:
        """The broker keeps an edition there."""
        if (posting := self.of(edition)) is not None:
            posting.sequence = sequence
        elif 0 <= edition <= self._last:  # it took longer than that edition was of use
            self._stream.delete(sequence)

    def delete_copy(self) -> None:
        if self.copy is not None:
            self._delete(self.copy)

    def delete_newest(self) -> None:
        self._delete(self.newest)

    def _publish(self, **changed: Any) -> tuple[Job, Posting]:
        self._last += 1
        job = replace(self.job, edition=self._last, **changed)
        self._stream.publish(job)
        return job, Posting(job.edition, job.lane)

    def _delete(self, posting: Posting) -> None:
        if posting.sequence:
            self._stream.delete(posting.sequence)


class Received:
    """What has come of a job. `head`: the upstream's status and content type. `notes`: what the
    head, or the books, should say besides. `ended` or `error`: how it ended. `buffered`: bytes that
    were not taken yet."""

    __slots__ = (
        "_pieces", "buffered", "ended", "error", "head", "notes", "paid", "resumable", "seen",
    )  # fmt: skip

    def __init__(self, resumable: ResumableStream | None) -> None:
        self.head: Start | None = None
        self.notes: dict[str, str] = {}
        self.ended: End | None = None
        self.error: HeadraceError | None = None
        self.buffered = 0
        self.seen = False
        """The client may have something of it, so that no other attempt can answer."""
        self.paid = False
        """A provider says it."""
        self.resumable = resumable
        """Keeps what the client has of a stream that a provider may continue."""
        self._pieces: deque[bytes] = deque()

    @property
    def done(self) -> bool:
        return self.ended is not None or self.error is not None

    def served_by(self, node: str | None) -> dict[str, str]:
        """Who gave it and what it cost, as headers; empty while nobody has. `node`: the worker's,
        if it is one."""
        if self.notes:
            return {name: plain(value) for name, value in self.notes.items() if _is_ours(name)}
        return {} if node is None else {SERVED_BY: f"node:{plain(node)}", COST: "0"}

    @property
    def owed(self) -> bool:
        """Whether there is text of a provider's that the client has not got: it pays for it, so it
        is to have it before it hears of any error."""
        return self.paid and self.buffered > 0 and self.head is not None and self.head.status == 200

    @property
    def resuming(self) -> bool:
        """Whether the stream broke, and the rest of it is for a provider."""
        return self.resumable is not None and self.resumable.broken

    def add(self, piece: bytes) -> None:
        if self.resumable is not None:
            piece = self.resumable.add(piece)
        self._pieces.append(piece)
        self.buffered += len(piece)

    def take(self) -> bytes:
        """What came since the last call. From now on the attempt cannot be repeated."""
        if not self._pieces:
            return b""
        self.seen = True
        self.buffered = 0
        if len(self._pieces) == 1:
            return self._pieces.popleft()
        found = b"".join(self._pieces)
        self._pieces.clear()
        return found

    def forget(self) -> None:
        """Who said it was lost, and the client has seen nothing of it."""
        self.head = None
        self.notes.clear()
        self._pieces.clear()
        self.buffered = 0
        if self.resumable is not None:
            self.resumable.forget()

    def break_off(self) -> bool:
        """Who said it was lost, and the client has a part of it: whether it can be continued."""
        return self.resumable is not None and self.resumable.break_off()

    @property
    def begun(self) -> Begun | None:
        """What a provider is to go on from, once the stream broke."""
        return self.resumable.begun if self.resumable is not None else None


def plain(text: str) -> str:
    """As a header's value can carry it: what is not printable ASCII is written as in URLs."""
    return text if text.isascii() and text.isprintable() else quote(text, safe=_PRINTABLE)


def _is_ours(name: str) -> bool:
    return name.startswith(NOTED) and name.isascii() and name.replace("-", "").isalnum()
