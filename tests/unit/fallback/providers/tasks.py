"""Tasks for providers, a sink that keeps what it gets, and providers opened on simulators."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from fallback.cost.spent import Spent
from fallback.providers import make
from fallback.providers.base import Provider, Task
from schemas import multipart, settings
from schemas.jobs import Job
from schemas.multipart import Part
from tests.doubles.providers import Provider as Simulator

KEY = "sk-test-0123456789abcdef"
CHAT = "/v1/chat/completions"
ASKED_FOR = "the-alias"
"""The model's name as clients say it."""


def job(endpoint: str, stream: bool = False, *, lenient: bool = False) -> Job:
    now = int(time.time() * 1000)
    return Job(
        id="0" * 32,
        ingress="in",
        lane="interactive",
        model="served",
        asked=ASKED_FOR,
        endpoint=endpoint,
        arrived=now,
        claim_by=now,
        first_by=now,
        total_by=now,
        stream=stream,
        account="acme",
        key="alice",
        content_type="application/json",
        body=b"",
        lenient=lenient,
    )


def task(endpoint: str, model: str, *, lenient: bool = False, **request: Any) -> Task:
    """With a JSON body."""
    whole = {"model": ASKED_FOR, **request}
    made = job(endpoint, bool(request.get("stream")), lenient=lenient)
    return Task(made, model, whole, orjson.dumps(whole), "application/json")


def chat(model: str, said: str = "say #one two three", **request: Any) -> Task:
    return task(CHAT, model, messages=[{"role": "user", "content": said}], **request)


def form(endpoint: str, model: str, files: dict[str, bytes], **fields: str) -> Task:
    """With a form for a body."""
    texts = {"model": ASKED_FOR, **fields}
    parts = [Part(name, value.encode()) for name, value in texts.items()]
    parts += [Part(name, content, "file.bin") for name, content in files.items()]
    body, content_type = multipart.encode(parts)
    return Task(job(endpoint, fields.get("stream") == "true"), model, texts, body, content_type)


@asynccontextmanager
async def opened(
    monkeypatch: pytest.MonkeyPatch, kind: str, url: str, **more: Any
) -> AsyncIterator[Provider]:
    monkeypatch.setenv("PROVIDER_KEY", more.pop("key", KEY))
    config = settings.Provider(name="cloud", kind=kind, url=url, key_env="PROVIDER_KEY", **more)
    provider = make(config)
    await provider.open()
    try:
        yield provider
    finally:
        await provider.close()


def same(spent: Spent, sim: Simulator) -> bool:
    """Whether `spent` is what the simulator's last request used, to the token."""
    used = sim.record.requests[-1].used
    tokens = (spent.prompt, spent.completion, spent.cached) == (
        used.input,
        used.output,
        used.cached,
    )
    return tokens and spent.told and spent.images == used.images
