"""What OpenTelemetry's conventions for generative AI call things, and what spans and metrics are
made of. Pure, and without the packages of OpenTelemetry.

The metrics' names, units and bounds are those of the conventions (docs/gen-ai/gen-ai-metrics.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

INPUT, OUTPUT = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"
CACHED = "gen_ai.usage.cache_read.input_tokens"
OPERATION, PROVIDER = "gen_ai.operation.name", "gen_ai.provider.name"
ASKED, ANSWERED = "gen_ai.request.model", "gen_ai.response.model"
STREAM, FIRST_CHUNK = "gen_ai.request.stream", "gen_ai.response.time_to_first_chunk"
REASONS = "gen_ai.response.finish_reasons"
ERROR, SERVER, TOKEN_TYPE = "error.type", "server.address", "gen_ai.token.type"
_OPERATIONS = {
    "completions": "text_completion",
    "own_completion": "text_completion",
    "infill": "text_completion",
    "generate": "text_completion",
    "responses": "chat",
    "messages": "chat",
    "embed": "embeddings",
}
Value = str | int | float | bool | tuple[str, ...]
Attributes = tuple[tuple[str, Value], ...]


class Kind(IntEnum):
    """Of a span, as the protocol numbers them."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3


@dataclass(slots=True, eq=False)
class What:
    """What spans of one kind have in common. Who makes them keeps it, as it is `packed` once: what
    the protocol makes of it."""

    name: str
    kind: Kind
    attributes: Attributes = ()
    packed: bytes = b""


When = tuple[int, int]
"""Beginning and end, in nanoseconds of the Unix epoch."""


@dataclass(frozen=True, slots=True, eq=False)
class Meter:
    """`bounds`: the upper ends of all buckets but the last."""

    name: str
    unit: str
    about: str
    bounds: tuple[float, ...]


_TIMES = tuple(0.01 * 2**power for power in range(14))
DURATION = Meter(
    "gen_ai.server.request.duration", "s", "Request received to last byte sent.", _TIMES
)
FIRST_TOKEN = Meter(
    "gen_ai.server.time_to_first_token",
    "s",
    "Request received to first byte of the answer.",
    (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
PER_TOKEN = Meter(
    "gen_ai.server.time_per_output_token",
    "s",
    "Time of each token behind the first.",
    (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
)
CALLS = Meter("gen_ai.client.operation.duration", "s", "Calls of providers.", _TIMES)
USAGE = Meter(
    "gen_ai.client.token.usage",
    "{token}",
    "Tokens that calls of providers used.",
    tuple(4.0**power for power in range(14)),
)


def operation(word: str) -> str:
    """`word`: of an endpoint, or of Ollama's. What the conventions have no name for keeps it."""
    return _OPERATIONS.get(word, word)


def used(prompt: int, completion: int, cached: int) -> Attributes:
    """What was counted of an answer; what is below 0 was not."""
    if cached < 0 <= min(prompt, completion):  # as nearly always
        return (INPUT, prompt), (OUTPUT, completion)
    found = (INPUT, prompt), (OUTPUT, completion), (CACHED, cached)
    return tuple(pair for pair in found if pair[1] >= 0)
