"""How fast an engine answers, from the answers that it gave last. Pure.

An answer is measured at the load that the engine had then, as that is what the next job gets.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from statistics import median
from typing import NamedTuple

from schemas import bounds
from schemas.frames import End
from schemas.nodes import ServedModel

KEPT = 5
"""Answers that count, of which the median does: an odd one changes nothing, three do."""
FEWEST = 8
"""Tokens of an answer that tell a pace; shorter ones count as whole requests."""
FEWEST_READ = 64
"""The same of a prompt, without what the engine had in its cache."""
READ_FASTER = 20
"""How many tokens of a prompt take about as long as one of an answer. It is for answers that come
as a whole, which do not show when the prompt was read."""
PATIENCE = 300.0
PATIENCE_MOST = 4 * 3600.0
"""Seconds without an answer after which the pace of an engine that others go before is not known
any more: it gets jobs again, and may be faster than it was. Twice as long after each time it was
not, up to the most."""
AS_BEFORE = 1.25
"""Up to how much faster it counts as not faster."""


class Answer(NamedTuple):
    """A whole answer. Seconds of the monotonic clock: when its first part was sent, and its last.
    `streamed`: its parts came as they were made."""

    end: End
    first: float
    last: float
    streamed: bool


class Pace:
    """Of one engine and model, in microseconds, 0 if unknown (see `ServedModel`)."""

    def __init__(self) -> None:
        self.token_us = self.prompt_us = self.request_us = 0
        self._tokens = deque[float](maxlen=KEPT)
        self._prompts = deque[float](maxlen=KEPT)
        self._requests = deque[float](maxlen=KEPT)
        self._measured = 0.0
        self._news = False
        """There are answers that the figures are not of yet: of many a second the last count."""
        self._patience = PATIENCE
        self._before = 0
        """The pace that was forgotten, until there is a new one."""

    def add(self, answer: Answer) -> None:
        end = answer.end
        took = end.engine_ms / 1000
        if took <= 0:  # a refusal
            return
        if end.completion_tokens < FEWEST:
            self._requests.append(took)
        else:
            self._add_tokens(answer, took)
        self._measured, self._news = answer.last, True

    def sum_up(self) -> None:
        """Find the figures, if there were answers since."""
        if not self._news:
            return
        self._news = False
        self.token_us, self.prompt_us = _middle(self._tokens), _middle(self._prompts)
        self.request_us = _middle(self._requests)
        if self._before:
            slow = self._before <= self._known * AS_BEFORE
            self._patience = min(PATIENCE_MOST, self._patience * 2) if slow else PATIENCE
            self._before = 0

    def look(self, now: float) -> None:
        """Of an engine that others go before: forget what was measured long ago."""
        if self._known and now - self._measured > self._patience:
            self._before = self._known
            for each in (self._tokens, self._prompts, self._requests):
                each.clear()
            self.token_us = self.prompt_us = self.request_us = 0

    @property
    def _known(self) -> int:
        return self.token_us or self.request_us

    def _add_tokens(self, answer: Answer, took: float) -> None:
        end = answer.end
        fresh = max(0, end.prompt_tokens - max(0, end.cached_tokens))
        if not answer.streamed:
            self._tokens.append(took / (end.completion_tokens + fresh / READ_FASTER))
            return
        spoke = answer.last - answer.first
        self._tokens.append(spoke / (end.completion_tokens - 1))
        if fresh >= FEWEST_READ and took > spoke:
            self._prompts.append((took - spoke) / fresh)


def _middle(seconds: deque[float]) -> int:
    """In microseconds, to two digits: cards are to say what differs."""
    if not seconds:
        return 0
    return min(bounds.TOKENS, max(1, int(float(f"{median(seconds) * 1e6:.2g}"))))


class Paces:
    """Of one engine: how fast it is for each of its models, and with which rank it asks for their
    jobs. Until an ingress says another, that is the `priority` of its operator."""

    def __init__(self, priority: int) -> None:
        self._priority = priority
        self._by_model: dict[str, Pace] = {}
        self._ranks: dict[str, int] = {}

    def add(self, model: str, answer: Answer) -> None:
        if (pace := self._by_model.get(model)) is None:
            pace = self._by_model[model] = Pace()
        pace.add(answer)

    def rank(self, model: str) -> int:
        return self._ranks.get(model, self._priority)

    def set_rank(self, model: str, rank: int) -> None:
        self._ranks[model] = rank

    def told(self, models: Iterable[ServedModel], now: float) -> tuple[ServedModel, ...]:
        """The same models, with what is known now."""
        return tuple(self._told(model, now) for model in models)

    def _told(self, model: ServedModel, now: float) -> ServedModel:
        rank, pace = self.rank(model.id), self._by_model.get(model.id, _UNKNOWN)
        pace.sum_up()
        if rank > 0:
            pace.look(now)
        figures = pace.token_us, pace.prompt_us, pace.request_us
        if (model.token_us, model.prompt_us, model.request_us, model.rank) == (*figures, rank):
            return model
        token_us, prompt_us, request_us = figures
        return replace(
            model,
            token_us=token_us,
            prompt_us=prompt_us,
            request_us=request_us,
            priority=self._priority,
            rank=rank,
        )


_UNKNOWN = Pace()
