"""Every field of OpenAI's and Anthropic's specifications, and of Ollama's API, at every endpoint of
texts, with an echo engine behind it."""

from __future__ import annotations

import pytest

from schemas.api.endpoints import BY_PATH
from tests.field_fuzz import FORMS, SPECIFIED, Fuzz, places_of
from tests.unit.ingress.endpoints.test_fuzz import OURS
from tests.unit.ingress.loopback import loopback_ingress

IN_TIME = 60.0
"""Seconds. The slowest takes 0.4 s on an idle machine."""
OWN = {("completions", "echo"): "the engine's own field, by which tests tell it what to do"}
TAKEN = {
    **{
        (name, "context_management"): "Anthropic's form of OpenAI's hint, or the other way round"
        for name in ("responses", "messages", "messages_beta")
    },
    ("completions", "logit_bias"): "llama-server takes lists of pairs",
    ("completions", "logprobs"): "llama-server takes a flag",
    ("chat", "logit_bias"): "llama-server takes lists of pairs",
}
"""What is wrong to the specification, and right to an engine."""


@pytest.mark.parametrize("name", sorted(SPECIFIED.keys() - FORMS))
async def test_every_field(name: str) -> None:
    path, kind, _ = SPECIFIED[name]
    typed = BY_PATH[path].shape.names if path in BY_PATH else kind.__annotations__.keys()
    async with loopback_ingress() as ingress:

        async def ask(body: bytes, _kind: str) -> tuple[int, bytes]:
            answer = await ingress.post(path, body)
            return answer.status, answer.body

        fuzz = Fuzz(ask, frozenset(OURS), IN_TIME)
        for number, place in enumerate(places_of(name, model="echo")):
            top = str(place.path[0])
            if (name, top) not in OWN:
                strict = top in typed and (name, top) not in TAKEN
                await fuzz.place(place, number, typed=strict)
    assert not fuzz.found, "\n".join(fuzz.found)
