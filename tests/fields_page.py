"""What becomes of each field, by endpoint and kind of engine: the page `docs/fields.md`.

    python -m tests.fields_page docs/fields.md

Nothing is decided here: engines' modules and `fallback/providers/kinds.py` say what is ignored,
`schemas/api/hints.py` what of that is a hint.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fallback.providers.kinds import KINDS
from schemas.api import endpoints
from schemas.api.endpoints import WORDS, Endpoint
from schemas.api.hints import HINTS, SILENT, is_hint
from schemas.nodes import Ignored, ServedModel
from workers.engines.llamacpp import capabilities
from workers.engines.llamacpp.reasoning import MAPPED as FOR_LLAMACPP
from workers.engines.ollama import engine as ollama
from workers.engines.ollama.request import MAPPED as FOR_OLLAMA
from workers.engines.openai.foreign_fields import NO_THOUGHTS
from workers.engines.sdcpp.engine import SdCppEngine
from workers.engines.sdcpp.own_fields import KNOWS as SDCPPS_OWN
from workers.engines.vllm import KNOWS as VLLMS_OWN
from workers.engines.vllm import MAPPED as FOR_VLLM
from workers.engines.vllm import VllmEngine
from workers.engines.whisper import engine as whisper
from workers.engines.whisper.request import KNOWS as WHISPERS_OWN

_THINKS: Mapping[str, Any] = {"chat_template": "<think>"}
_DEGREES: Mapping[str, Any] = {"chat_template_caps": {"supports_reasoning_effort": True}}
_TOKENS = ("tokenize", "detokenize")
_TALKS = ("chat", "completions", "responses", "messages", "count_tokens")
_VLLM = (*_TALKS, "embeddings", "rerank", *_TOKENS, "score", "classify", "pooling")
_OLLAMA = ("chat", "completions", "responses", "messages", "embeddings")


def _llamacpp(name: str, props: Mapping[str, Any], *fills: str) -> ServedModel:
    generating = (word for word in capabilities.GENERATING if word != endpoints.INFILL.word)
    words = (*generating, *fills, "embeddings", "rerank", *_TOKENS)
    ignores, knows = capabilities.ignored(props, {}, words), capabilities.known(words)
    return ServedModel(name, "e", "llamacpp", 4, features=words, ignores=ignores, knows=knows)


CARDS = (
    _llamacpp("llama.cpp", {}),
    _llamacpp("llama.cpp, a model that reasons", _THINKS),
    _llamacpp("llama.cpp, a model with degrees of reasoning", _DEGREES),
    _llamacpp("llama.cpp, a model with tokens for a text between two", {}, endpoints.INFILL.word),
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
    ServedModel(
        *("sd.cpp", "e", "sdcpp", 1, 0, ("image",), ("images", "edits")),
        *(SdCppEngine.ignored_fields, SDCPPS_OWN),
    ),
)
"""One model for each that differs. Servers of the kind `openai` get all fields as they come."""
MODELS: Mapping[str, tuple[str, ...]] = {
    "openai": ("gpt-4o", "gpt-5", "text-embedding-3-small", "gpt-image-1", "tts-1", "whisper-1"),
    "google": ("gemini-2.5-flash", "gemini-embedding-001", "imagen-4"),
    "anthropic": ("claude-sonnet-4-6",),
    "cloudflare": ("@cf/meta/llama", "@cf/baai/bge-m3"),
    "compatible": ("llama", "bge-m3", "whisper"),
}
"""Models of each kind of provider that stand for its families."""
_MAPPED: Mapping[str, tuple[str, ...]] = {
    "llamacpp": FOR_LLAMACPP,
    "ollama": (*FOR_OLLAMA, "max_completion_tokens", "keep_alive"),
    "vllm": FOR_VLLM,
}
_COLUMNS: Mapping[str, str] = {
    "llama.cpp": "llamacpp",
    "Ollama": "ollama",
    "vLLM": "vllm",
    "whisper.cpp": "whisper",
    "sd.cpp": "sdcpp",
    **{f"{kind} (paid)": f"provider:{kind}" for kind in KINDS},
}
_LIKE_OTHERS = (
    endpoints.CHAT_TOKENS,
    endpoints.INPUT_TOKENS,
    endpoints.COUNT_TOKENS,
    endpoints.TEMPLATE,
)
_FIRST = "\n## "
"""Where the tables begin on the page."""


def page(before: str) -> str:
    """The page with its tables made anew; `before`: the page as it is."""
    prose, _, _ = before.partition(_FIRST)
    served = (each for each in endpoints.ENDPOINTS if each not in _LIKE_OTHERS)
    tables = (line for endpoint in served for line in _table(endpoint))
    return prose.rstrip() + "\n\n" + "\n".join(tables)


def _table(endpoint: Endpoint) -> Iterator[str]:
    columns = {
        name: found for name, kind in _COLUMNS.items() if (found := list(_models(kind, endpoint)))
    }
    if not columns:
        return
    yield f"## `{endpoint.path}`\n"
    yield f"| field | {' | '.join(columns)} |"
    yield "| --- |" + " --- |" * len(columns)
    for path in _paths(endpoint, [model for found in columns.values() for model in found]):
        cells = (_cell(path, endpoint, models) for models in columns.values())
        yield f"| `{path}` | {' | '.join(cells)} |"
    yield ""


def _models(kind: str, endpoint: Endpoint) -> Iterator[ServedModel]:
    """The models of this kind that have the endpoint."""
    _, _, provider = kind.partition("provider:")
    for name in MODELS.get(provider, ()):
        family = KINDS[provider].family(name)
        features = tuple(WORDS[path] for path in family.endpoints)
        refuses = (*family.refuses, *KINDS[provider].refuses)
        if endpoint.word in features:
            yield ServedModel(name, provider, kind, 1, features=features, ignores=refuses)
    yield from (card for card in CARDS if card.kind == kind and endpoint.word in card.features)


def _paths(endpoint: Endpoint, models: list[ServedModel]) -> list[str]:
    """The fields of the API, and those inside of them of which something is known."""
    names = endpoint.shape.names
    inner = {each.field for model in models for each in model.ignores if _at(each, endpoint)}
    inner |= {path for path, words in HINTS.items() if endpoint.word in words}
    return sorted(names | {path for path in inner if path.partition(".")[0] in names})


def _at(entry: Ignored, endpoint: Endpoint) -> bool:
    return not entry.at or endpoint.word in entry.at


def _cell(path: str, endpoint: Endpoint, models: list[ServedModel]) -> str:
    return " or ".join(dict.fromkeys(class_of(path, endpoint, model) for model in models))


def class_of(path: str, endpoint: Endpoint, model: ServedModel) -> str:
    """The class of the field at `path` for this model."""
    if path in SILENT:
        return "unsaid"
    found = [each for each in model.ignores if each.field == path and _at(each, endpoint)]
    if not found or (path == "n" and endpoint.choices):
        return "mapped" if path in _MAPPED.get(model.kind, ()) else "honoured"
    if found[0].tried:
        return "tried"
    return "hint" if found[0].partly or is_hint(path, endpoint.word) else "refused"


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(page(file.read_text()))
