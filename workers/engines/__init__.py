"""Kinds of engines: each has a module or a folder, and one line in `KINDS`.

What else a new kind touches: `docs/adr/0010-one-table-of-endpoints.md`.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from schemas import settings
from schemas.settings import SettingsError
from workers.engines.base import Engine
from workers.engines.echo.engine import EchoEngine
from workers.engines.llamacpp import embedded
from workers.engines.llamacpp.engine import LlamaCppEngine
from workers.engines.ollama.engine import OllamaEngine
from workers.engines.openai.engine import OpenAIEngine
from workers.engines.sdcpp.engine import SdCppEngine
from workers.engines.vllm import VllmEngine
from workers.engines.whisper.engine import WhisperEngine
from workers.process.supervised import Maker, Supervised

KINDS: dict[str, Maker] = {
    "llamacpp": LlamaCppEngine,
    "echo": EchoEngine,
    "embedded": embedded.started,
    "whisper": WhisperEngine,
    "sdcpp": SdCppEngine,
    "ollama": OllamaEngine,
    "vllm": VllmEngine,
    "openai": OpenAIEngine,
}


def build(config: settings.Engine) -> Engine:
    """The engine at the config's URL, or around the program that its command starts."""
    make = KINDS[config.kind]
    return Supervised(config, make) if config.command else make(config)


def check(engines: Sequence[settings.Engine]) -> None:
    """Raises SettingsError with one line for each engine of an unknown kind."""
    faults = [
        f"engines.{number}.kind: {_unknown(engine.kind)}"
        for number, engine in enumerate(engines)
        if engine.kind not in KINDS
    ]
    if faults:
        raise SettingsError("\n".join(faults))


def _unknown(kind: str) -> str:
    near = difflib.get_close_matches(kind, KINDS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"there is no kind {kind!r} of engine, but {', '.join(KINDS)}{hint}"
