"""What OpenTelemetry's conventions for generative AI call things. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from schemas.frames import End

INPUT, OUTPUT = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"
CACHED = "gen_ai.usage.cache_read.input_tokens"
OPERATION, PROVIDER = "gen_ai.operation.name", "gen_ai.provider.name"
ASKED, ANSWERED = "gen_ai.request.model", "gen_ai.response.model"
ERROR, SERVER, TOKEN_TYPE = "error.type", "server.address", "gen_ai.token.type"
_OPERATIONS = {
    "completions": "text_completion",
    "own_completion": "text_completion",
    "generate": "text_completion",
    "responses": "chat",
    "messages": "chat",
    "embed": "embeddings",
}


def operation(word: str) -> str:
    """`word`: of an endpoint, or of Ollama's. What the conventions have no name for keeps it."""
    return _OPERATIONS.get(word, word)


def used(end: End | None) -> Iterator[tuple[str, int]]:
    """What was counted of an answer, as attributes."""
    if end is None:
        return
    counts = end.prompt_tokens, end.completion_tokens, end.cached_tokens
    for name, count in zip((INPUT, OUTPUT, CACHED), counts, strict=True):
        if count >= 0:
            yield name, count
