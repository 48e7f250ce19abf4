"""Ollama's lists of models, from the entries of OpenAI's list and what stands in them under
``headrace``. Pure.

What is not known is empty or 0: cards say nothing of files, families, sizes and quantization.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

Entry = dict[str, Any]

VERSION = "0.32.15"
"""The release of Ollama whose API this is. Clients ask for it, and some refuse older ones."""
_ARCHITECTURE = "headrace"
"""In place of the model's, which is not known; clients need one to find the context's length."""
_FOREVER = timedelta(days=365 * 292)
"""How far away Ollama says the end is of a model that stays loaded."""
CAPABILITIES: Mapping[str, tuple[str, ...]] = {
    "completion": ("chat", "completions"),
    "embedding": ("embeddings",),
    "tools": ("tools",),
    "vision": ("vision",),
    "audio": ("audio",),
    "thinking": ("reasoning",),
    "insert": ("suffix",),
}
"""Ollama's words, each with the features and senses that it may stand for."""


def tagged(name: str) -> str:
    """Ollama's full name for a model: without a tag, it is the latest."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def listed(entry: Mapping[str, Any]) -> Entry:
    """For ``/api/tags``."""
    named = {**_named(entry), "modified_at": _time(entry["created"])}
    return {**named, "capabilities": capabilities(entry)}


def beside(entry: Mapping[str, Any]) -> Entry:
    """For ``models``, which llama-server gives beside ``data`` in OpenAI's list: as Ollama's, under
    the name as it is. A model that takes pictures or recordings is ``multimodal`` (llama.cpp,
    tools/server)."""
    able = capabilities(entry)
    more = [] if {"vision", "audio"}.isdisjoint(able) else ["multimodal"]
    name = {"name": entry["id"], "model": entry["id"], "type": "model"}
    return {**listed(entry), **name, "capabilities": [*able, *more]}


def running(entry: Mapping[str, Any], now: datetime) -> Entry:
    """For ``/api/ps``."""
    until = (now + _FOREVER).isoformat().replace("+00:00", "Z")
    context = entry["headrace"]["context"]
    return {**_named(entry), "expires_at": until, "size_vram": 0, "context_length": context}


def shown(entry: Mapping[str, Any]) -> Entry:
    """For ``/api/show``."""
    told, context = entry["headrace"], entry["headrace"]["context"]
    length = {f"{_ARCHITECTURE}.context_length": context} if context else {}
    return {
        **dict.fromkeys(("license", "modelfile", "parameters", "template"), ""),
        "details": _details(entry),
        "model_info": {"general.architecture": _ARCHITECTURE, **length},
        "capabilities": capabilities(entry),
        "modified_at": _time(entry["created"]),
        "headrace": told,
    }


def capabilities(entry: Mapping[str, Any]) -> list[str]:
    """A model whose features nobody knows is taken for one that writes texts."""
    told = entry["headrace"]
    words = {*told["features"], *told["modalities"]}
    found = [name for name, of in CAPABILITIES.items() if not words.isdisjoint(of)]
    return found if told["features"] else sorted({"completion", *found})


def _named(entry: Mapping[str, Any]) -> Entry:
    """The digest is that of the name, so that it stays the same and differs from others."""
    name = tagged(entry["id"])
    digest = sha256(name.encode()).hexdigest()
    about = {"size": 0, "digest": digest, "details": _details(entry)}
    return {"name": name, "model": name, **about}


def _details(entry: Mapping[str, Any]) -> Entry:
    kinds: Iterable[str] = entry["headrace"]["engines"]
    gguf = not {"llamacpp", "embedded", "ollama"}.isdisjoint(kinds)
    found: Entry = {"parent_model": "", "format": "gguf" if gguf else "", "family": ""}
    found |= {"families": [], "parameter_size": "", "quantization_level": ""}
    context = entry["headrace"]["context"]
    return {**found, "context_length": context} if context else found


def _time(epoch: int) -> str:
    return f"{datetime.fromtimestamp(epoch, UTC):%Y-%m-%dT%H:%M:%SZ}"
