"""Requests that are nearly right, to real llama.cpp servers: each gets one answer, in time, and no
fault of a request is a 5xx."""

from __future__ import annotations

import asyncio
import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.surface.servers import EMBEDDINGS_MODEL, TOOLS_MODEL
from tests.fabric import Fabric
from tests.unit.ingress.endpoints.test_fuzz import GOOD, places

pytestmark = pytest.mark.asyncio(loop_scope="package")

SEED = 19
REQUESTS = 300
AT_ONCE = 4
IN_TIME = 60.0
"""Seconds for one answer: a server that hangs never gives it, and a slow machine does."""
PATHS = sorted(GOOD.keys() - {"/v1/rerank"})
LIMITS = {"/v1/responses": "max_output_tokens"}
KEPT = ("model", "max_tokens", "max_completion_tokens", "max_output_tokens")
"""Fields that are left as they are: one token is enough of any answer."""
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 1.5, -0.0, 2**31, 2**40, 2**64 - 1, 1e30),
    *("", "x", "{", "é\u0000", "auto", "required"),
    *([], [1], ["x"], [[]], [None], ["", "x"], [49152], [[2**31 - 1]]),
    *({}, {"a": 1}, {"type": "text"}, {"type": "text", "text": "x"}, {"type": "function"}),
    *({"type": "object", "properties": {"model": {"type": "string"}}}, {"type": "nonsense"}),
    *({"type": "tool_result"}, {"role": "user"}, {"role": "user", "content": ""}),
    *({"role": "assistant", "content": "x"}, {"role": "tool", "content": "x"}),
)
MODELS_FAULT = "invalid_structured_output"


def nearly_good(chance: random.Random) -> tuple[str, dict[str, Any]]:
    path = chance.choice(PATHS)
    shape, good = GOOD[path]
    limit = LIMITS.get(path, "max_tokens")
    body = {**copy.deepcopy(good), "model": TOOLS_MODEL, limit: 1}
    if path == "/v1/embeddings":
        body = {**copy.deepcopy(good), "model": EMBEDDINGS_MODEL}
    for name in ("tool_choice", "reasoning"):  # these servers refuse them, whatever else there is
        body.pop(name, None)
    for _ in range(chance.randint(1, 2)):
        tops = shape.names - set(KEPT)
        spots = [spot for spot in places(body) if spot[0] not in KEPT]
        *way, last = chance.choice([*spots, *((name,) for name in sorted(tops))])
        inner: Any = body
        for step in way:
            inner = inner[step]
        inner[last] = copy.deepcopy(chance.choice(VALUES))
    return path, body


def fault(path: str, status: int, answer: bytes) -> str:
    """What is wrong with an answer."""
    if status == 200:
        return ""
    try:
        error = json.loads(answer)["error"]
    except (ValueError, KeyError, TypeError):
        return f"{status} without the envelope"
    if status >= 500 and error.get("code") != MODELS_FAULT:
        return f"{status} {error.get('code')}: {error.get('message')}"
    named = isinstance(error.get("param"), str | None) and isinstance(error.get("code"), str)
    return "" if named and error.get("message") else f"{status} in other words"


async def test_requests_that_are_nearly_good(served: Fabric) -> None:
    chance = random.Random(SEED)
    waiting = iter([nearly_good(chance) for _ in range(REQUESTS)])
    found: list[str] = []

    async def ask_all(mine: Iterator[tuple[str, dict[str, Any]]]) -> None:
        for path, body in mine:
            try:
                async with asyncio.timeout(IN_TIME):
                    why = fault(path, *await ask(served, path, body))
            except TimeoutError:
                why = "no answer"
            if why:
                found.append(f"{why}\n  {path} {json.dumps(body)}")

    await asyncio.gather(*(ask_all(waiting) for _ in range(AT_ONCE)))
    assert not found, "\n".join(found)


async def ask(served: Fabric, path: str, body: dict[str, Any]) -> tuple[int, bytes]:
    url, headers = served.url + path, served.headers
    async with served.session.post(url, json=body, headers=headers) as answer:
        return answer.status, await answer.read()
