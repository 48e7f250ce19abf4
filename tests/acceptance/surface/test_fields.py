"""Every field of OpenAI's and Anthropic's specifications at real llama.cpp servers: absent, null,
of a wrong type, and extreme. A sample of the places is drawn, always the same one. With the names
of endpoints in the environment (``HEADRACE_FUZZ=chat,messages``, or ``HEADRACE_FUZZ=all``) each of
their places is given every value."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from tests.acceptance.conftest import MODEL
from tests.acceptance.surface.servers import EMBEDDINGS_MODEL, RANKING_MODEL, TOOLS_MODEL
from tests.acceptance.surface.test_fuzz import MODELS_FAULT
from tests.fabric import Fabric
from tests.field_fuzz import SEED, SPECIFIED, Fuzz, is_whole, places_of
from tests.specification import Place

pytestmark = [pytest.mark.asyncio(loop_scope="package")]

SAMPLE = 40
"""Places at the top, and as many inside."""
AT_ONCE = 4
IN_TIME = 60.0
"""Seconds for one answer: a server that hangs never gives it, and a slow machine does."""
SHORT = {"max_tokens": 2, "temperature": 0}
OLLAMA = {"options": {"num_predict": 2, "temperature": 0}}
ASKED: dict[str, dict[str, Any]] = {
    "chat": SHORT,
    "completions": SHORT,
    "embeddings": {"model": EMBEDDINGS_MODEL},
    "responses": {"max_output_tokens": 2, "temperature": 0},
    "input_tokens": {},
    "messages": SHORT,
    "messages_beta": SHORT,
    "count_tokens": {},
    "rerank": {"model": RANKING_MODEL},
    "ollama_chat": OLLAMA,
    "ollama_generate": OLLAMA,
    "ollama_embed": {"model": EMBEDDINGS_MODEL},
    "ollama_show": {},
}
"""What a good request has here, by endpoint."""
WHOLE = [name for name in ASKED if is_whole(name)]
LIMITS = {"max_tokens", "max_completion_tokens", "max_output_tokens", "options"}
"""They stay as they are, or some answers would have thousands of tokens."""
Turn = tuple[str, int, Place]


def turns() -> list[Turn]:
    """(endpoint, number, place) of all that is asked."""
    found: list[Turn] = []
    for model in (MODEL, TOOLS_MODEL) if WHOLE else (TOOLS_MODEL,):
        for name in WHOLE or ASKED:
            known = places_of(name, **{"model": model, **ASKED[name]})
            each = [(name, number, place) for number, place in enumerate(known)]
            found += [turn for turn in each if turn[2].path[0] not in LIMITS]
    if WHOLE:
        return found
    chance = Random(SEED)
    tops = [turn for turn in found if len(turn[2].path) == 1]
    inner = [turn for turn in found if len(turn[2].path) > 1]
    return chance.sample(tops, SAMPLE) + chance.sample(inner, SAMPLE)


@pytest.mark.timeout(7200 if WHOLE else 180)
async def test_every_field(served: Fabric) -> None:
    waiting = iter(turns())
    chance = None if WHOLE else Random(SEED)
    fuzzes = {name: fuzz_of(served, SPECIFIED[name][0], chance) for name in ASKED}

    async def ask_all(mine: Iterator[Turn]) -> None:
        for name, number, place in mine:
            await fuzzes[name].place(place, number)

    await asyncio.gather(*(ask_all(waiting) for _ in range(AT_ONCE)))
    found = [f"{name}: {each}" for name, fuzz in fuzzes.items() for each in fuzz.found]
    assert not found, "\n".join(found)
    assert served.tracebacks() == []


def fuzz_of(served: Fabric, path: str, chance: Random | None) -> Fuzz:
    async def ask(body: bytes, kind: str) -> tuple[int, bytes]:
        headers = {**served.headers, "Content-Type": kind}
        async with served.session.post(served.url + path, data=body, headers=headers) as answer:
            return answer.status, await answer.read()

    return Fuzz(ask, frozenset({MODELS_FAULT}), IN_TIME, chance=chance)
