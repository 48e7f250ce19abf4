"""One module per kind of engine. A new kind is one file here and one line in `KINDS`."""

from __future__ import annotations

from collections.abc import Callable

from schemas import settings
from workers.engines.base import Engine
from workers.engines.echo import EchoEngine
from workers.engines.embedded_engine import EmbeddedEngine
from workers.engines.llamacpp import LlamaCppEngine
from workers.engines.ollama import OllamaEngine
from workers.engines.openai import OpenAIEngine
from workers.engines.sdcpp import SdCppEngine
from workers.engines.vllm import VllmEngine
from workers.engines.whisper import WhisperEngine

KINDS: dict[str, Callable[[settings.Engine], Engine]] = {
    "llamacpp": LlamaCppEngine,
    "echo": EchoEngine,
    "embedded": EmbeddedEngine,
    "whisper": WhisperEngine,
    "sdcpp": SdCppEngine,
    "ollama": OllamaEngine,
    "vllm": VllmEngine,
    "openai": OpenAIEngine,
}


def build(config: settings.Engine) -> Engine:
    return KINDS[config.kind](config)
