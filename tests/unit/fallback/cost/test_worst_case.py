"""Whatever is asked of whichever endpoint: what a provider counts was reserved, and is charged.

The simulators take each byte for a token here, as the worst tokenizers do, and a picture for what
the list says at most.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fallback.cost import pricing
from fallback.cost.price_list import Prices
from fallback.cost.spent import Spent
from fallback.providers import make
from fallback.providers.base import Provider, Task
from fallback.providers.request import request_of
from schemas import multipart
from schemas.multipart import Part
from schemas.settings import Price
from schemas.settings import Provider as Config
from tests.doubles.drive import RecordingSink
from tests.doubles.providers import Anthropic, Cloudflare, Compatible, Google, OpenAI, words
from tests.doubles.providers import Provider as Simulator
from tests.unit.fallback.cost.test_duration import FRAME
from tests.unit.fallback.cost.test_media import recording
from tests.unit.fallback.providers.tasks import KEY, job

SIMS: dict[str, type[Simulator]] = {
    "openai": OpenAI,
    "google": Google,
    "cloudflare": Cloudflare,
    "anthropic": Anthropic,
    "compatible": Compatible,
}
OWN = [
    Price(provider="openai", model="gpt-3.5-turbo-instruct", input="1.5", output=2),
    Price(provider="compatible", model="some-model", input=1, output=2),
]
PICTURE = 4784
IMAGE = "data:image/png;base64," + base64.b64encode(os.urandom(99)).decode()
SOUNDS = {
    "half a second": recording(0.5, rate=8000),
    "two seconds": recording(2, rate=8000),
    "MP3": FRAME * 50,
    "unknown": bytes(900),
}


class ProvidersSetup:
    """Every kind of provider, on its simulator."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.prices = Prices(OWN)
        self.sims: dict[str, Simulator] = {}
        self.providers: dict[str, Provider] = {}

    async def open(self) -> None:
        for kind, simulator in SIMS.items():
            sim = self.sims[kind] = await self.stack.enter_async_context(simulator(key=KEY))
            about = {"name": kind, "kind": kind, "url": sim.base_url, "key_env": "PROVIDER_KEY"}
            provider = self.providers[kind] = make(Config.model_validate(about))
            await provider.open()
            self.stack.push_async_callback(provider.close)

    def holds(self, where: str, path: str, body: bytes, kind: str, tokens: int | None) -> None:
        """`where`: provider/model. `tokens`: that an answer would have without a limit."""
        name, _, model = where.partition("/")
        sim, price = self.sims[name], self.prices.of(name, name, model)
        assert price is not None
        made = replace(job(path, b'"stream":true' in body), content_type=kind)
        request, body = request_of(made, body)
        task = Task(made, model, request, body, kind)
        if self.providers[name].unfit(task):
            return
        worst = pricing.worst_case(path, request, len(body), price)
        sim.record.clear()
        sim.pace.tokens = tokens
        spent = self.runner.run(self.providers[name].call(task, RecordingSink()))
        [sent] = sim.record.requests
        charge = pricing.cost(spent, price)
        payment = pricing.cost(_billed(sent, request), price)
        assert sent.state == "finished", sent.status
        assert payment <= charge <= worst, (sent.used, spent)


def _billed(sent: Any, request: Any) -> Spent:
    """By the provider's own count; pictures that are tokens are no pictures beside."""
    used = sent.used
    return Spent(
        prompt=used.input,
        completion=used.output,
        cached=used.cached,
        images=0 if used.output else used.images,
        quality=str(request.get("quality") or ""),
        size=str(request.get("size") or ""),
        seconds=used.seconds,
        characters=used.characters,
        stored=used.stored,
    )


@pytest.fixture(scope="module")
def setup() -> Iterator[ProvidersSetup]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROVIDER_KEY", KEY)
        patch.setattr(words, "count", _bytes)
        found = ProvidersSetup()
        found.runner.run(found.open())
        yield found
        found.runner.run(found.stack.aclose())
        found.runner.close()


def _bytes(content: Any) -> int:
    return len(words.text_of(content).encode()) + PICTURE * orjson.dumps(content).count(b"data:")


often = settings(max_examples=40, deadline=None)
TEXTS = st.text(min_size=1, max_size=60).filter(str.strip) | st.sampled_from(
    ["1234567890" * 30, "a,b;c\n" * 40, "水" * 50, "tell me more " * 20]
)
COUNTS = st.none() | st.integers(1, 3)
LIMITS = st.sampled_from([None, -1, 1, 7, 40])
LENGTHS = st.sampled_from([None, 1, 50, 5000])
JSON = "application/json"


def said(**fields: Any) -> bytes:
    """Without those that are None."""
    return orjson.dumps({name: value for name, value in fields.items() if value is not None})


PARTS = st.lists(
    TEXTS.map(lambda text: {"type": "text", "text": text})
    | st.just({"type": "image_url", "image_url": {"url": IMAGE}}),
    min_size=1,
    max_size=4,
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.just("user"), "content": TEXTS | PARTS},
        optional={"type": st.sampled_from(["image", "input_audio", "image_url"])},
    ),
    min_size=1,
    max_size=3,
)
TALKERS = [
    *("openai/gpt-4o-mini", "openai/gpt-5-mini", "google/gemini-2.5-flash"),
    *("cloudflare/@cf/meta/llama-3.1-8b-instruct", "anthropic/claude-haiku-4-5"),
    "compatible/some-model",
]


@pytest.mark.parametrize("where", TALKERS)
@often
@given(MESSAGES, LIMITS, LIMITS, COUNTS, st.booleans(), LENGTHS)
def test_chat(
    setup: ProvidersSetup,
    where: str,
    messages: Any,
    old: int | None,
    new: int | None,
    n: int | None,
    stream: bool,
    length: int | None,
) -> None:
    body = said(
        messages=messages, max_tokens=old, max_completion_tokens=new, n=n, stream=stream or None
    )
    setup.holds(where, "/v1/chat/completions", body, JSON, length)


@often
@given(TEXTS | st.lists(TEXTS, min_size=1, max_size=6), LIMITS, st.booleans(), LENGTHS)
def test_completions(
    setup: ProvidersSetup, prompt: Any, limit: int | None, stream: bool, length: int | None
) -> None:
    body = said(prompt=prompt, max_tokens=limit, stream=stream or None)
    setup.holds("openai/gpt-3.5-turbo-instruct", "/v1/completions", body, JSON, length)


@often
@given(TEXTS, LIMITS.filter(lambda limit: limit != -1), st.booleans(), LENGTHS)
def test_responses(
    setup: ProvidersSetup, text: str, limit: int | None, stream: bool, length: int | None
) -> None:
    body = said(input=text, max_output_tokens=limit, stream=stream or None)
    setup.holds("openai/gpt-4.1-mini", "/v1/responses", body, JSON, length)


MARKS = st.none() | st.sampled_from([{"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}])


@often
@given(TEXTS, st.integers(1, 40), MARKS, st.booleans(), LENGTHS)
def test_messages(
    setup: ProvidersSetup, text: str, limit: int, mark: Any, stream: bool, length: int | None
) -> None:
    part = {"type": "text", "text": text, **({"cache_control": mark} if mark else {})}
    messages = [{"role": "user", "content": [part]}]
    body = said(messages=messages, max_tokens=limit, stream=stream or None)
    setup.holds("anthropic/claude-haiku-4-5", "/v1/messages", body, JSON, length)


@often
@given(
    st.sampled_from(["openai/text-embedding-3-small", "cloudflare/@cf/baai/bge-base-en-v1.5"]),
    TEXTS | st.lists(TEXTS, min_size=1, max_size=5) | st.lists(st.integers(0, 99_999), min_size=1),
)
def test_embeddings(setup: ProvidersSetup, where: str, given: Any) -> None:
    setup.holds(where, "/v1/embeddings", said(input=given), JSON, None)


SIZES = st.sampled_from([None, "1024x1024", "1024x1536", "1536x1024", "auto"])
QUALITIES = st.sampled_from([None, "low", "medium", "high", "auto"])
DRAFTS = st.none() | st.integers(0, 3)


@often
@given(TEXTS, SIZES, QUALITIES, COUNTS, DRAFTS)
def test_pictures(
    setup: ProvidersSetup, prompt: str, size: Any, quality: Any, n: int | None, drafts: int | None
) -> None:
    more = {} if drafts is None else {"stream": True, "partial_images": drafts}
    body = said(prompt=prompt, size=size, quality=quality, n=n, **more)
    setup.holds("openai/gpt-image-1", "/v1/images/generations", body, JSON, None)


@often
@given(st.sampled_from(["openai/dall-e-3", "google/imagen-4.0-generate-001"]), TEXTS, COUNTS)
def test_pictures_without_usage(
    setup: ProvidersSetup, where: str, prompt: str, n: int | None
) -> None:
    n = 1 if "dall-e" in where else n
    body = said(prompt=prompt, size="1024x1024", n=n)
    setup.holds(where, "/v1/images/generations", body, JSON, None)


def form(file: str, files: list[bytes], **fields: Any) -> tuple[bytes, str]:
    texts = [Part(name, str(value).encode()) for name, value in fields.items() if value is not None]
    return multipart.encode([*texts, *(Part(file, each, "a.bin") for each in files)])


@often
@given(TEXTS, SIZES, QUALITIES, COUNTS, st.integers(1, 3))
def test_edits(
    setup: ProvidersSetup, prompt: str, size: Any, quality: Any, n: int | None, files: int
) -> None:
    body, kind = form("image", [b"PNG"] * files, prompt=prompt, size=size, quality=quality, n=n)
    setup.holds("openai/gpt-image-1", "/v1/images/edits", body, kind, None)


@often
@given(
    st.sampled_from(["openai/whisper-1", "openai/gpt-4o-transcribe"]),
    st.sampled_from(list(SOUNDS)),
    st.none() | TEXTS,
    st.sampled_from([None, "json", "text", "srt"]),
    LENGTHS,
)
def test_transcriptions(
    setup: ProvidersSetup, where: str, sound: str, prompt: Any, form_: Any, length: int | None
) -> None:
    form_ = "json" if "gpt" in where else form_
    body, kind = form("file", [SOUNDS[sound]], prompt=prompt, response_format=form_)
    setup.holds(where, "/v1/audio/transcriptions", body, kind, length)


@often
@given(TEXTS)
def test_speech(setup: ProvidersSetup, text: str) -> None:
    setup.holds("openai/tts-1", "/v1/audio/speech", said(input=text, voice="alloy"), JSON, None)
