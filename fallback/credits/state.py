"""The books as one process has read them: which reservations are open, which jobs are paid. Pure.

The stream orders all entries, so what is said here rests on their order alone, never on clocks.
"""

from __future__ import annotations

from dataclasses import dataclass

from fallback.credits.entries import Entry, Kind, Name

CLOSING = frozenset({Kind.CHARGE, Kind.RELEASE})


@dataclass(slots=True)
class Claim:
    """A reservation. `balance`: of the account after it; `closed`: by what, None while it is open;
    `seq` 0: its opening was not seen, as it lies before what was read."""

    name: Name
    account: str
    holder: str
    amount: int
    seq: int
    at: float
    balance: int = 0
    closed: Kind | None = None


class View:
    """Applies entries in order; `seq` is the last one's."""

    def __init__(self) -> None:
        self.seq = 0
        self._jobs: dict[str, list[Claim]] = {}
        self._open: dict[Name, Claim] = {}

    def apply(self, entry: Entry) -> None:
        """An entry that was applied before changes nothing."""
        if entry.seq <= self.seq:
            return
        self.seq = entry.seq
        if entry.kind is Kind.RESERVE:
            self._reserve(entry)
        elif entry.kind in CLOSING:
            self._close(entry)

    def _reserve(self, entry: Entry) -> None:
        claim = self.find(entry.name)
        if claim is not None:  # ids differ within the broker's window: a stray of long ago
            return
        claim = Claim(
            entry.name,
            entry.account,
            entry.holder,
            entry.amount,
            entry.seq,
            entry.at,
            entry.balance,
        )
        self._add(claim)

    def _close(self, entry: Entry) -> None:
        claim = self.find(entry.name)
        if claim is None:
            claim = Claim(entry.name, entry.account, entry.holder, entry.amount, 0, entry.at)
            self._add(claim)
        if claim.closed is None:
            claim.closed = entry.kind
            self._open.pop(claim.name, None)

    def _add(self, claim: Claim) -> None:
        self._jobs.setdefault(claim.name.job, []).append(claim)
        if claim.closed is None:
            self._open[claim.name] = claim

    def adopt(self, older: View) -> None:
        """Take over what `older`, which read what comes before this view, left open or paid."""
        for claims in older._jobs.values():
            for claim in claims:
                if self.find(claim.name) is None:
                    self._add(claim)

    def find(self, name: Name) -> Claim | None:
        return next((each for each in self._jobs.get(name.job, ()) if each.name == name), None)

    def takes(self, job: str, turn: int) -> int:
        """How many takes of this holder are used up: the next one's number."""
        own = [each.name.take for each in self._jobs.get(job, ()) if each.name.turn == turn]
        return max(own, default=-1) + 1

    def knows(self, job: str) -> bool:
        return job in self._jobs

    def paid(self, job: str) -> bool:
        """Whether any holder of `job` has charged for it."""
        return any(claim.closed is Kind.CHARGE for claim in self._jobs.get(job, ()))

    def below(self, name: Name) -> list[Claim]:
        """Open reservations of earlier holders of the job."""
        claims = self._jobs.get(name.job, ())
        return [each for each in claims if each.closed is None and each.name.turn < name.turn]

    def outranked(self, name: Name) -> bool:
        """Whether a later holder of the job has a reservation that it may yet charge, or anybody
        else has charged: then the holder of `name` must not."""
        return any(
            claim.closed is Kind.CHARGE or (claim.closed is None and claim.name.turn > name.turn)
            for claim in self._jobs.get(name.job, ())
            if claim.name != name
        )

    def open(self) -> list[Claim]:
        return list(self._open.values())

    def reserved(self, account: str) -> int:
        """Micro-units in open reservations of `account`."""
        return sum(claim.amount for claim in self._open.values() if claim.account == account)

    def forget(self, before: float) -> None:
        """Drop jobs whose reservations were all closed and opened before this time (broker's)."""
        for job in [job for job, claims in self._jobs.items() if _over(claims, before)]:
            del self._jobs[job]

    def __len__(self) -> int:
        return len(self._jobs)


def _over(claims: list[Claim], before: float) -> bool:
    return all(claim.closed is not None and claim.at < before for claim in claims)
