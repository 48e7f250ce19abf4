"""One attempt at a job in the fallback, and the money that is held for it."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from fallback.cost import estimate
from fallback.credits.ledger import Held
from fallback.policy import Choice, Chosen
from fallback.providers.base import Task
from schemas import multipart
from schemas.api import endpoints
from schemas.jobs import Job
from schemas.settings import Route
from workers.engines.base import Sink


class Delivery(Sink, Protocol):
    """A job that this fallback may hold, and the way back to its client; `workers.attempt.Attempt`
    is one. `permitted`: done once the claim is granted. `stopped`: why it is to end early."""

    permitted: Future[None]
    stopped: Exception | None

    @property
    def turn(self) -> tuple[int, int]:
        """(stream sequence, delivery count): of two holders the later one has the higher."""

    def note(self, *pairs: tuple[str, str]) -> None:
        """Say something of the answer that is not in it."""


@dataclass(frozen=True, slots=True)
class ProviderAttempt:
    """A job in hand, the route by which it may leave the house, and what it asks for.
    `began`: Unix seconds."""

    job: Job
    delivery: Delivery
    route: Route
    request: Mapping[str, Any]
    body: bytes
    began: float

    def task(self, model: str) -> Task:
        return Task(self.job, model, self.request, self.body, self.job.content_type)


@dataclass(slots=True)
class Bill:
    """A reservation, and the providers it covers. `running`: the call under way. `closed`: the
    books have been told what became of it."""

    held: Held
    chosen: Chosen
    running: tuple[Choice, Task] | None = None
    closed: bool = False


_LIMIT_FIELDS: Mapping[str, tuple[str, ...]] = {
    endpoints.CHAT.path: ("max_tokens", "max_completion_tokens"),
    endpoints.COMPLETIONS.path: ("max_tokens",),
    endpoints.RESPONSES.path: ("max_output_tokens",),
}
"""The fields that limit the answer there; another endpoint's does not. The first is set."""
_DEFAULTS = {endpoints.COMPLETIONS.path: 16}
"""Of OpenAI's API reference, where it has one; whoever asks for no limit (-1) does not mean it."""


def request_of(job: Job, body: bytes) -> tuple[dict[str, Any], bytes]:
    """The JSON object of the job's body, or the fields of a form, and the body. The ingress has
    checked it. An answer without a limit gets one: the worst case is what it is reserved for. One
    that was begun is the last message, and counts."""
    content_type, endpoint = job.content_type, job.endpoint
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return _form(multipart.parse(body, content_type)), body
    request: dict[str, Any] = orjson.loads(body)
    limits = _LIMIT_FIELDS.get(endpoint, ())
    if limits and not any(estimate.limits(request.get(name)) for name in limits):
        unsaid = request.get(limits[0]) is None
        for name in estimate.LIMITS:
            if not estimate.limits(request.get(name)):  # -1 is llama-server's "none"
                request.pop(name, None)
        most = estimate.OUTPUT_TOKENS
        request[limits[0]] = _DEFAULTS.get(endpoint, most) if unsaid else most
        body = orjson.dumps(request)
    if job.begun is not None:
        return _resumed(request, *job.begun)
    return request, body


def _resumed(request: dict[str, Any], tokens: int, text: str) -> tuple[dict[str, Any], bytes]:
    for name in estimate.LIMITS:
        if estimate.limits(request.get(name)):
            request[name] = max(1, request[name] - tokens)
    if text:
        request["messages"] = [*request["messages"], {"role": "assistant", "content": text}]
    return request, orjson.dumps(request)


def _form(parts: Iterable[multipart.Part]) -> dict[str, Any]:
    """Texts, and for each name of uploads a list of their bytes: what they may cost depends on
    their length and number."""
    found: dict[str, Any] = {}
    for part in parts:
        if part.filename is None:
            found[part.name] = part.content.decode(errors="replace")
        else:
            found.setdefault(part.name, []).append(part.content)
    return found
