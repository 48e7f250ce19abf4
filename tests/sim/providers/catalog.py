"""The simulators by name."""

from __future__ import annotations

from collections.abc import Mapping

from tests.sim.providers.anthropic import Anthropic
from tests.sim.providers.base import Provider
from tests.sim.providers.cloudflare import Cloudflare
from tests.sim.providers.compatible import Compatible, Groq, OpenRouter, Together
from tests.sim.providers.google import Google
from tests.sim.providers.openai import OpenAI

SIMULATORS: Mapping[str, type[Provider]] = {
    kind.name: kind
    for kind in (OpenAI, Google, Cloudflare, Anthropic, Compatible, OpenRouter, Groq, Together)
}
