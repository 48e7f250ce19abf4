"""Paid cloud APIs: data (`kinds`, `unsupported`), and code where data cannot say enough."""

from __future__ import annotations

from fallback.providers.anthropic import Anthropic
from fallback.providers.base import Provider
from fallback.providers.google import Google
from fallback.providers.openai import OpenAIProvider
from schemas import settings

_OWN: dict[str, type[OpenAIProvider]] = {"anthropic": Anthropic, "google": Google}
"""Kinds with code of their own."""


def make(config: settings.Provider) -> Provider:
    """A provider that is not open yet."""
    return _OWN.get(config.kind, OpenAIProvider)(config)
