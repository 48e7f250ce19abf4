"""One module per kind of engine. A new kind is one file here and one line in `KINDS`."""

from __future__ import annotations

from collections.abc import Callable

from schemas import settings
from workers.engines.base import Engine
from workers.engines.echo import EchoEngine
from workers.engines.llamacpp import LlamaCppEngine

KINDS: dict[str, Callable[[settings.Engine], Engine]] = {
    "llamacpp": LlamaCppEngine,
    "echo": EchoEngine,
}


def build(config: settings.Engine) -> Engine:
    return KINDS[config.kind](config)
