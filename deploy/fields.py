"""What becomes of each field, by endpoint and kind of engine: the page `docs/fields.md`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.nodes import ServedModel
from workers.engines.llamacpp import capabilities
from workers.engines.ollama import engine as ollama
from workers.engines.openai.no_thoughts import NO_THOUGHTS
from workers.engines.vllm import KNOWS as VLLMS_OWN
from workers.engines.vllm import VllmEngine
from workers.engines.whisper import engine as whisper
from workers.engines.whisper.request import KNOWS as WHISPERS_OWN

_THINKS: Mapping[str, Any] = {"chat_template": "<think>"}
_DEGREES: Mapping[str, Any] = {"chat_template_caps": {"supports_reasoning_effort": True}}
_VLLM = ("chat", "completions", "responses", "messages", "count_tokens", "embeddings", "rerank")
_OLLAMA = ("chat", "completions", "responses", "messages", "embeddings")


def _llamacpp(name: str, props: Mapping[str, Any]) -> ServedModel:
    words = (*capabilities.GENERATING, "embeddings", "rerank")
    ignores, knows = capabilities.ignored(props, {}, words), capabilities.known(words)
    return ServedModel(name, "e", "llamacpp", 4, features=words, ignores=ignores, knows=knows)


CARDS = (
    _llamacpp("llama.cpp", {}),
    _llamacpp("llama.cpp, a model that reasons", _THINKS),
    _llamacpp("llama.cpp, a model with degrees of reasoning", _DEGREES),
    ServedModel(
        *("Ollama", "e", "ollama", 1, 0, ("text",), _OLLAMA),
        *((*ollama.OllamaEngine.ignored_fields, *NO_THOUGHTS), ollama.KNOWS),
    ),
    ServedModel(
        *("Ollama, a model that reasons", "e", "ollama", 1, 0, ("text",), _OLLAMA),
        *(ollama.OllamaEngine.ignored_fields, ollama.KNOWS),
    ),
    ServedModel(
        *("vLLM", "e", "vllm", 32, 0, ("text",), _VLLM, VllmEngine.ignored_fields, VLLMS_OWN),
    ),
    ServedModel(
        *("whisper.cpp", "e", "whisper", 1, 0, whisper.MODALITIES, whisper.FEATURES),
        *(whisper.NOT_THERE, WHISPERS_OWN),
    ),
)
