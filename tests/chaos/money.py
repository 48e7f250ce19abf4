"""Each call of the provider is charged once, or not for a reason; each charge is for one call.

The job's id joins them: the provider gets it with each call, and entries of the journal have it.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import ROUND_CEILING, Decimal

from fallback.credits.entries import MICRO, Entry, EntryKind, Purchase
from fallback.providers.http import CALL
from fallback.providers.prompt import prompt_tokens
from schemas.frames import COST
from tests.acceptance.cloud.cloud_setup import INPUT, OUTPUT
from tests.chaos.client import Outcome
from tests.doubles.providers.record import Exchange
from workers.cancellation import Reason

_TAKEN = frozenset({"superseded", "paid", *(r.told for r in Reason if not r.deserted)})
"""Notes of releases: somebody else has the job, and pays for it."""
_CLOCKS = 0.05
"""Seconds by which the broker's clock and ours may be told apart."""
_SWEPT = "swept"
"""The fallback that had reserved was silent for long."""


@dataclass
class Bought:
    """What one job came to: its calls, and its entries in the journal."""

    job: str
    calls: list[Exchange] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)

    def of(self, kind: EntryKind) -> list[Entry]:
        return [entry for entry in self.entries if entry.kind is kind]

    @property
    def charge(self) -> Purchase | None:
        return next((entry.usage for entry in self.of(EntryKind.CHARGE)), None)

    @property
    def number(self) -> int:
        """Of the request: the first word of its prompt."""
        said: str = self.calls[0].body["messages"][0]["content"]
        return int(said.split(maxsplit=1)[0].removeprefix("#"))

    def paid_before(self) -> int:
        """How many calls began after the charge: an earlier holder's end did not come to the
        client, so another served the job for nothing."""
        since = time.time() - time.monotonic()
        paid = [entry.at for entry in self.of(EntryKind.CHARGE)]
        return sum(call.at + since > paid[0] - _CLOCKS for call in self.calls) if paid else 0

    def why_free(self) -> Counter[str]:
        """Why calls were not charged: the notes of what was released."""
        return Counter(entry.note for entry in self.of(EntryKind.RELEASE))


def joined(calls: Iterable[Exchange], entries: Iterable[Entry]) -> list[Bought]:
    found: dict[str, Bought] = {}
    for call in calls:
        job = call.headers.get(CALL.lower(), "")
        found.setdefault(job, Bought(job)).calls.append(call)
    for entry in entries:
        if entry.job:
            found.setdefault(entry.job, Bought(entry.job)).entries.append(entry)
    return list(found.values())


def faults(bought: Iterable[Bought], outcomes: Iterable[Outcome]) -> Iterator[str]:
    """What is wrong with the books. `outcomes`: whole and right answers of a provider."""
    by_number = defaultdict(list)
    for each in bought:
        yield from _entries(each)
        yield from _charge(each)
        yield from _calls(each)
        if each.calls:
            by_number[each.number].append(each)
    for outcome in outcomes:
        yield from _told(outcome, by_number[outcome.ask.number])


def summary(bought: Iterable[Bought]) -> str:
    """For people: what became of all calls."""
    calls, charged, free = 0, 0, Counter[str]()
    for each in bought:
        calls += len(each.calls)
        charged += each.charge is not None
        if len(each.calls) > (each.charge is not None):
            free += each.why_free() or {"paid before": each.paid_before()}
    return f"{calls} calls of the provider, {charged} charged; the others' jobs: {dict(free)}"


def _entries(each: Bought) -> Iterator[str]:
    """Each reservation is closed once, and one at most by a charge."""
    opened = Counter((entry.turn, entry.take) for entry in each.of(EntryKind.RESERVE))
    ended = (*each.of(EntryKind.CHARGE), *each.of(EntryKind.RELEASE))
    closed = Counter((entry.turn, entry.take) for entry in ended)
    if opened != closed or max(opened.values(), default=0) > 1:
        yield f"job {each.job}: reserved {dict(opened)}, closed {dict(closed)}"
    if (times := len(each.of(EntryKind.CHARGE))) > 1:
        yield f"job {each.job} was charged {times} times"


def _charge(each: Bought) -> Iterator[str]:
    charge = each.charge
    if charge is not None and not any(_fits(charge, call) for call in each.calls):
        yield f"job {each.job} was charged {charge}, which none of {_told_of(each.calls)} explains"


def _fits(charge: Purchase, call: Exchange) -> bool:
    """Whether a call used what was charged: what the provider said, or of an aborted one, what had
    come of it."""
    used = call.used
    told = (charge.prompt, charge.completion) == (used.input, used.output)
    if call.state == "finished" and told:
        return charge.cost == cost(used.input, used.output)
    prompt = charge.prompt in (used.input, prompt_tokens(call.body))
    priced = charge.cost == cost(charge.prompt, charge.completion)
    return prompt and charge.completion <= used.output and priced


def _calls(each: Bought) -> Iterator[str]:
    """A call that was not charged has its release, which says that others have the job, or that its
    fallback was lost. Or it began when the job was paid already: then there was no reservation."""
    left = len(each.calls) - (each.charge is not None)
    why = each.why_free()
    known = sum(count for note, count in why.items() if note in _TAKEN or note == _SWEPT)
    if left > known + each.paid_before():
        yield f"job {each.job}: not charged are {left} of {_told_of(each.calls)}: {dict(why)}"


def _told(outcome: Outcome, jobs: list[Bought]) -> Iterator[str]:
    """A client with a whole answer has been told what was charged for it. Answers under keys are
    kept without comments."""
    cost = told_cost(outcome)
    charges = [job.charge.cost for job in jobs if job.charge is not None]
    again = any(len(job.calls) > 1 for job in jobs)  # an earlier holder was charged
    if outcome.ask.key and outcome.ask.stream:
        cost = charges[0] if charges else None
    if cost not in charges and not (cost == 0 and charges and again):
        yield f"request {outcome.ask.number} was told {cost}, and charged {charges}"


def told_cost(outcome: Outcome) -> int | None:
    """Micro-units that the head or the last comment of an answer says."""
    said = outcome.cost
    for line in outcome.raw.split(b"\n"):
        if line.startswith(f": {COST} ".encode()):
            said = line.decode().removeprefix(f": {COST} ")
    return int(Decimal(said.split()[0]) * MICRO) if said else None


def cost(read: int, written: int) -> int:
    exact = Decimal(read * INPUT + written * OUTPUT)
    return int(exact.to_integral_value(ROUND_CEILING))


def _told_of(calls: list[Exchange]) -> list[tuple[str, int, int, int]]:
    return [(c.state, c.used.input, c.used.output, prompt_tokens(c.body)) for c in calls]
