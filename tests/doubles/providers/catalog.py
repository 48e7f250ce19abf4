"""The simulators by name."""

from __future__ import annotations

from collections.abc import Mapping

from tests.doubles.providers.anthropic import Anthropic
from tests.doubles.providers.base import Provider
from tests.doubles.providers.cloudflare import Cloudflare
from tests.doubles.providers.compatible import Compatible, Groq, OpenRouter, Together
from tests.doubles.providers.google import Google
from tests.doubles.providers.openai import OpenAI

SIMULATORS: Mapping[str, type[Provider]] = {
    kind.name: kind
    for kind in (OpenAI, Google, Cloudflare, Anthropic, Compatible, OpenRouter, Groq, Together)
}
