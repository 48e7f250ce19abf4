"""The simulated Ollama that the tests of its engine share, and jobs for it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

from tests.doubles.drive import CHAT, config, job, opened
from tests.doubles.ollama.native import Model
from tests.doubles.ollama.server import Ollama
from workers.engines.ollama.engine import OllamaEngine

COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CITY = {"type": "object", "properties": {"city": {"type": "string"}}}


def models() -> tuple[Model, ...]:
    return (
        Model("tiny:latest", ("completion", "tools", "vision"), num_ctx=2048),
        Model("minilm:latest", ("embedding",), num_ctx=256),
    )


def serving(server: Ollama, **more: Any) -> AbstractAsyncContextManager[OllamaEngine]:
    return opened(OllamaEngine(config("ollama", server.url, **more)))


def tiny(endpoint: str = CHAT, *, stream: bool = False, lenient: bool = False) -> Any:
    return job("tiny:latest", endpoint, stream=stream, lenient=lenient)
