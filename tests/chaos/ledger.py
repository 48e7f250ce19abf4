"""What became of each request, and which of that must not be."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from ingress.jobs.usage import AGAIN
from tests.chaos import answers, money
from tests.chaos.asks import CLOUD, MIXED, PARROT
from tests.chaos.client import Outcome
from tests.chaos.stage import Outage, Stage

GRACE = 4.0
"""Seconds for which a disturbance may still be felt after its end."""
SLOWLY = 0.5
"""Seconds within which an ingress writes down what it answered: it says 0.1, on a quiet machine.
Where the broker was away, it tries again after another second."""
FAULTS = ("lost", "wrong", "doubled", "hung", "cut", "dishonest")
HONEST = ("right", "left", "ingress killed", "turned away", "interrupted", "broker away")


@dataclass
class Verdict:
    """`word`: one of FAULTS and HONEST. `why`: the fault in words."""

    word: str
    why: str = ""


@dataclass
class Ledger:
    stage: Stage
    outcomes: list[tuple[Outcome, Verdict]] = field(default_factory=list)
    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)
    bought: str = ""
    """What became of the calls of the provider, in words."""

    def enter(self, outcome: Outcome) -> Verdict:
        verdict = self._judged(outcome)
        self.outcomes.append((outcome, verdict))
        self.kinds[outcome.ask.kind, verdict.word] += 1
        return verdict

    def count(self, word: str) -> int:
        return sum(verdict.word == word for _, verdict in self.outcomes)

    def served_by_workers(self) -> tuple[int, int]:
        """How many whole answers of workers are counted at least, and at most: whether one was
        whole when its client left is not known here, nor whether an ingress that was killed just
        then had counted it."""
        whole = [o for o, v in self.outcomes if v.word == "right" and not _paid(o)]
        unknown = [o for o, v in self.outcomes if v.word not in ("right", "turned away")]
        return sum(not self._uncounted(each) for each in whole), len(whole) + len(unknown)

    def _uncounted(self, outcome: Outcome) -> bool:
        kills = [o for o in self.stage.outages if o.hard and o.name == outcome.ingress.name]
        return any(
            outcome.till
            + (AGAIN if self.stage.during(kill.since - AGAIN, kill.since, "broker") else 0)
            > kill.since - SLOWLY
            for kill in kills
        )

    def sold(self) -> list[Outcome]:
        """The whole answers of the provider whose cost was told. It is said behind the last word:
        an answer that lacks only its end when its fallback is lost gets that end here."""
        paid = [o for o, v in self.outcomes if v.word == "right" and _paid(o)]
        return [
            each
            for each in paid
            if money.told_cost(each) is not None or not self._during(each, "fallback", "broker")
        ]

    @property
    def faults(self) -> list[str]:
        return [
            f"{verdict.word}: request {outcome.ask.number} ({outcome.ask.kind}, "
            f"{'streamed' if outcome.ask.stream else 'whole'}, {outcome.ask.conduct}, at "
            f"{outcome.ingress.name}): {verdict.why}"
            for outcome, verdict in self.outcomes
            if verdict.word in FAULTS
        ]

    def _judged(self, outcome: Outcome) -> Verdict:
        if outcome.hung:
            return Verdict("hung", f"{outcome.raw[-200:]!r}")
        if outcome.status not in (0, 200):
            return self._refused(outcome)
        try:
            said = outcome.said() if outcome.raw and (outcome.whole or outcome.ask.stream) else None
        except (ValueError, LookupError, TypeError) as fault:
            return Verdict("wrong", f"no answer: {fault}: {outcome.raw[-200:]!r}")
        if said is not None and (wrong := answers.begun(outcome.ask, said)) and not said.error:
            return Verdict("doubled" if "no beginning" in wrong else "wrong", wrong)
        if outcome.left:
            return Verdict("left")
        if not outcome.whole or said is None:
            return self._broken(outcome)
        if said.error:
            return self._interrupted(outcome, said.error)
        wrong = answers.fault(outcome.ask, said)
        return Verdict("wrong", wrong) if wrong else Verdict("right")

    def _broken(self, outcome: Outcome) -> Verdict:
        """The connection broke."""
        ingress = outcome.ingress.name
        names = {each.name for each in self._during(outcome, "ingress") if each.hard}
        if ingress in names:
            return Verdict("ingress killed")
        draining = {each.name for each in self._during(outcome, "draining")}
        if ingress in draining and not outcome.raw and not outcome.status:
            return Verdict("turned away")
        return Verdict("lost", outcome.broken)

    def _refused(self, outcome: Outcome) -> Verdict:
        code = answers.error_code(outcome.raw)
        why = f"{outcome.status} {code}: {outcome.raw[:300]!r}"
        if code == "shutting_down" and outcome.retry_after:
            return Verdict("turned away")
        if code == "broker_unavailable" and self._during(outcome, "broker"):
            return Verdict("broker away", why)
        return Verdict("dishonest", why)

    def _interrupted(self, outcome: Outcome, code: str) -> Verdict:
        """The stream ended with an error event. That is right only where nobody can go on."""
        if code != "stream_interrupted":
            return Verdict("dishonest", f"an event with {code}")
        struck = self._during(outcome, "worker", "engine", "fallback", "broker", "ingress")
        model = outcome.ask.model
        able = outcome.ask.continued and (model != MIXED or not _paid(outcome))
        if able or not struck:
            return Verdict("cut", f"{code}, {outcome.served_by}: {outcome.raw[-400:]!r}")
        if model in (CLOUD, MIXED) and not self._during(outcome, "fallback", "broker", "ingress"):
            return Verdict("cut", f"{code} of a provider")
        if model == PARROT and not self._during(outcome, "worker", "engine", "broker", "ingress"):
            return Verdict("cut", code)
        return Verdict("interrupted")

    def _during(self, outcome: Outcome, *what: str) -> list[Outage]:
        return self.stage.during(outcome.since - GRACE, outcome.till, *what)


def _paid(outcome: Outcome) -> bool:
    """Whether a provider gave the answer, or the rest of it."""
    return b"provider:" in outcome.raw or outcome.served_by.startswith("provider:")
