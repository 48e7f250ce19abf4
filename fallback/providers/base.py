"""What the fallback asks of a provider, and what it hands to one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from fallback.cost.spent import NOTHING, Spent
from schemas.jobs import Job
from schemas.nodes import Ignored
from workers.engines.base import Sink

Reason = Literal["busy", "failed", "away", "key", "absent"]
"""Why a provider did not answer. In order: it has no room now (429, 503, 529) · it answered and
failed (5xx, cut off, nonsense, an error inside the stream) · it cannot be reached, or says nothing
(connect and silence time-outs) · it refuses our account (401, 402, 403, quota used up) · it lacks
the model or the path that our configuration names (404), while its other models may work."""


class UsageCounter(Protocol):
    """Counts a running call, in case it ends before the provider reports its usage."""

    def spent(self) -> Spent: ...


class ProviderFault(Exception):
    """The provider did not answer as it should; `reason` says in what way.

    `retry_after`: seconds, if the provider named a time. Clients see `message`, so it never quotes
    the provider. `detail` quotes the provider and goes to the log alone: providers name the
    account, its limits and their use. Neither text holds a secret.
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
    """One job for one provider. `model`: the model's name there. `request`: the JSON object of the
    body, or the text fields of a form. `body`: the job's whole body, of the type `content_type`.
    `counter`: set by the provider when it is called."""

    job: Job
    model: str
    request: Mapping[str, Any]
    body: bytes
    content_type: str
    counter: UsageCounter | None = None

    @property
    def spent(self) -> Spent:
        """What the call has used so far; valid at any time, also after it failed or was cancelled.

        `NOTHING` until the request is sent. Then our estimate of the prompt; while an answer
        streams, also our count of the answer, or what the provider has reported already.
        """
        return self.counter.spent() if self.counter is not None else NOTHING


class Provider(Protocol):
    """A paid cloud API. Its methods raise ProviderFault, and nothing else."""

    name: str
    kind: str
    host: str
    """Where it is."""
    choices: int
    """The highest `n` of one request. If it is 1, a request for more becomes one job for each."""

    def resumes(self, model: str, endpoint: str) -> bool:
        """Whether the model continues an assistant message at the end, answering with the rest."""

    async def open(self) -> None:
        """Read the key and make the client; no I/O beyond that. Raises ProviderFault("key")."""

    def renew(self) -> None:
        """Read the key anew, for the next calls. Raises ProviderFault("key"); the old one stays."""

    async def close(self) -> None: ...

    def endpoints(self, model: str) -> frozenset[str]:
        """The endpoints of this model there, by path: ``/v1/chat/completions``."""

    def ignores(self, model: str) -> tuple[Ignored, ...]:
        """Fields of requests that the model would ignore there."""

    def unfit(self, task: Task) -> str:
        """Why the request would silently lose something there; "" if it would not. Pure and cheap,
        as it runs before credits are reserved."""

    def lost_hints(self, task: Task) -> int:
        """How many of the request's hints would do nothing there; it is served all the same."""

    async def call(self, task: Task, sink: Sink) -> Spent:
        """Answer the job into `sink`, which gets nothing before the provider's status is known.

        A 4xx that is the client's fault is an answer that used `NOTHING`. A call that is cancelled
        closes its connection at once. After a failure or a cancellation, `task.spent` says what
        was used.
        """
