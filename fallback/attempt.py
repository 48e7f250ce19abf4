"""One attempt at a job in the fallback, and the money that is hold for it."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from fallback.cost import estimate
from fallback.credits.ledger import Hold
from fallback.policy import Choice, Chosen
from fallback.providers.base import Task
from schemas import multipart
from schemas.api.base import Api
from schemas.api.endpoints import api_of
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
class Payment:
    """What an attempt is paid from: the money that is held for it, and the providers for which that
    is enough. `running`: the call under way. `closed`: the ledger has been told what became of
    it."""

    attempt: ProviderAttempt
    hold: Hold
    chosen: Chosen
    running: tuple[Choice, Task] | None = None
    closed: bool = False


def request_of(job: Job, body: bytes) -> tuple[dict[str, Any], bytes]:
    """The JSON object of the job's body, or the fields of a form, and the body. The ingress has
    checked it. An answer without a limit gets one: the worst case is what it is reserved for. One
    that was begun is the last message, and counts."""
    kind = job.content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return _form(multipart.parse(body, job.content_type)), body
    request: dict[str, Any] = orjson.loads(body)
    api = api_of(job.endpoint)
    if api.limits and not any(estimate.limits(request.get(name)) for name in api.limits):
        _limit(request, api)
        body = orjson.dumps(request)
    if job.begun is not None:
        tokens, text = job.begun
        for name in filter(lambda name: estimate.limits(request.get(name)), estimate.LIMITS):
            request[name] = max(1, request[name] - tokens)
        if text:
            said = {"role": "assistant", "content": text}
            request[api.prompt] = [*request[api.prompt], said]
        body = orjson.dumps(request)
    return request, body


def _limit(request: dict[str, Any], api: Api) -> None:
    """Whoever asks for no limit (-1, as llama-server knows it) does not mean the usual one."""
    unsaid = request.get(api.limits[0]) is None
    for name in estimate.LIMITS:
        if not estimate.limits(request.get(name)):
            request.pop(name, None)
    request[api.limits[0]] = (unsaid and api.usual_limit) or estimate.OUTPUT_TOKENS


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
