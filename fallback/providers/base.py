"""What the fallback needs of a provider, and what a provider gets of the fallback."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from fallback.cost.spent import NOTHING, Spent
from schemas.jobs import Job
from schemas.nodes import Ignored
from workers.engines.base import Sink

Reason = Literal["busy", "failed", "away", "key", "absent"]
"""Why a provider did not answer: it has no room now (429, 503, 529) · it answered and failed (5xx,
cut off, nonsense, an error inside the stream) · it cannot be reached, or says nothing (connect and
silence time-outs) · it does not take our account (401, 402, 403, quota used up) · it has not the
model or the path that our configuration names (404), which says nothing of its other models."""


class UsageCounter(Protocol):
    """Counts a call that runs, for those that end before the provider has told its usage."""

    def spent(self) -> Spent: ...


class ProviderFault(Exception):
    """The provider did not answer as it should; `reason` says in what way.

    `retry_after`: seconds, where it said so. The message is told to clients: it has nothing that
    the provider says. `detail` has, for the log alone: providers name the account, its limits and
    their use. Neither has a secret in it.
    """

    def __init__(
        self,
        message: str,
        reason: Reason,
        *,
        retry_after: float | None = None,
        detail: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.retry_after = retry_after
        self.detail = detail


@dataclass(slots=True)
class Task:
    """One job for one provider. `model`: its name there. `request`: the JSON object of the body, or
    the text fields of a form. `body`: the job's body, whole, as `content_type` says. `counter`: the
    provider's, once it is called."""

    job: Job
    model: str
    request: Mapping[str, Any]
    body: bytes
    content_type: str
    counter: UsageCounter | None = None

    @property
    def spent(self) -> Spent:
        """What the call has used so far; good at any time, also after it failed or was cancelled.

        Before the request is out, it is `NOTHING`; then the prompt, as we estimate it; while an
        answer streams, that and our count of the answer, or what the provider has told already.
        """
        return self.counter.spent() if self.counter is not None else NOTHING


class Provider(Protocol):
    """A paid cloud API. Its methods raise ProviderFault, and nothing else."""

    name: str
    kind: str
    choices: int
    """Most of `n` in one request; of more than one, a job is made for each where that is 1."""

    def resumes(self, model: str, endpoint: str) -> bool:
        """Whether it goes on from an assistant message at the end, and answers with the rest."""

    async def open(self) -> None:
        """Read the key and make the client; no I/O beyond that. Raises ProviderFault("key")."""

    async def close(self) -> None: ...

    def endpoints(self, model: str) -> frozenset[str]:
        """The paths that this model has there, as ``/v1/chat/completions``."""

    def ignores(self, model: str) -> tuple[Ignored, ...]:
        """Fields of requests that would be lost there."""

    def unfit(self, task: Task) -> str:
        """Why the request cannot be sent there without a loss nobody told the client of; "" if it
        can. Pure, and cheap: asked before credits are reserved."""

    async def call(self, task: Task, sink: Sink) -> Spent:
        """Answer the job into `sink`, which gets nothing before the upstream's status is known.
        What was begun and fails has used `task.spent`.

        A 4xx that is the client's fault is an answer, of which `Spent` is `NOTHING`.
        Cancelled, it closes its connection at once; `task.spent` then says what was used.
        """
