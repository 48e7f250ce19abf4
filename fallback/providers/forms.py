"""Forms with recordings or pictures that go to a provider, and the transcripts that come back."""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from fallback.cost import duration
from fallback.cost.spent import Spent
from fallback.providers import kinds, metering
from fallback.providers.base import Task
from schemas import multipart
from schemas.api import media
from schemas.multipart import FormError, Part
from workers.engines.openai.refusal import Refusal
from workers.engines.openai.request_body import name_form

PLAIN = "text/plain; charset=utf-8"
_FORMAT = "response_format"
_TIME = re.compile(rb"--> (\d+):(\d\d):(\d\d)[.,](\d{3})|--> (\d\d):(\d\d)[.,](\d{3})")
_USUAL = 16_000
"""Bytes a second of a usual recording, at 128 kbit/s."""


def rewrite(task: Task, dropped: set[str]) -> tuple[bytes, str]:
    """(body, content type) with the provider's name of the model. Raises Refusal.

    If the client wants a transcript as bare text, the provider is asked for JSON, as only JSON
    holds the usage.
    """
    as_json = _as_text(task)
    if not dropped and not as_json:
        return name_form(task.body, task.content_type, task.model)
    try:
        parts = multipart.parse(task.body, task.content_type)
    except FormError as fault:
        raise Refusal(str(fault), param=fault.param) from None
    gone = {*dropped, *([_FORMAT] if as_json else [])}
    kept = [part for part in parts if part.name not in gone]
    if as_json:
        kept.append(Part(_FORMAT, b"json"))
    return multipart.put(kept, "model", task.model)


def _as_text(task: Task) -> bool:
    """Whether the client wants bare text. A stream has the same events in every format."""
    hearing = task.job.endpoint in kinds.HEARING
    return hearing and task.request.get(_FORMAT) == "text" and not task.job.stream


async def heard(
    task: Task,
    body: bytes,
    content_type: str,
    read: Callable[[Task, bytes], Awaitable[dict[str, Any]]],
) -> tuple[Spent, bytes, str]:
    """(what the call used, the answer, its content type). `read` parses a JSON answer, and raises
    if it is none."""
    titles = task.request.get(_FORMAT) in ("srt", "vtt")
    if titles and not content_type.startswith(("application/json", "text/html")):
        return Spent(seconds=max(_ends(body), length(task)), told=False), body, content_type
    found = await read(task, body)
    usage = metering.usage_in(media.API, found)
    spent = metering.of_usage(media.API, usage) if usage else Spent(told=False)
    if not spent.told or not (spent.seconds or spent.prompt):
        seconds = found.get("duration")
        told = isinstance(seconds, int | float | str) and _number(seconds) > 0
        spent = Spent(seconds=_number(seconds) if told else length(task), told=told)
    elif not spent.seconds:
        spent = replace(spent, seconds=length(task))
    if _as_text(task):
        return spent, f"{found.get('text', '')}\n".encode(), PLAIN
    return spent, body, content_type


def _ends(body: bytes) -> float:
    """Seconds at which the last subtitle ends."""
    times = _TIME.findall(body)
    if not times:
        return 0.0
    hours, minutes, seconds, millis, *short = times[-1]
    if not seconds:  # without hours, as WebVTT allows
        minutes, seconds, millis = short
    return int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + int(millis) / 1000


def length(task: Task) -> float:
    """Seconds of the recording; a guess at a usual rate if they cannot be told."""
    try:
        parts = multipart.parse(task.body, task.content_type)
        data = next(part.content for part in parts if part.name == "file")
    except (FormError, StopIteration):
        return 0.0
    exact = duration.seconds(data)
    return math.ceil(len(data) / _USUAL) if exact is None else exact


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return 0.0
