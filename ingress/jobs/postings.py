"""What of a job is in the broker's stream: it is published more than once if it is hedged, moved or
lost. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

from schemas import subjects
from schemas.jobs import Begun, Job


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
    """`job`: as it was published last, apart from the copy. `newest`: that publish. `copy`: one for
    providers alone beside the worker that has the job, if it was hedged."""

    def __init__(self, job: Job, stream: Stream) -> None:
        self.job = job
        self.newest = Posting(job.edition, job.lane)
        self.copy: Posting | None = None
        self._stream = stream
        self._last = job.edition

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
        elif edition <= self._last:  # it took longer than that edition was of use
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
