"""The embedded engine: a llama.cpp server that the worker starts without a configured command.

Its program, `workers.engines.llamacpp.server`, runs by its path, so it does not import this
package. The functions below import it only when called: `python -m` warns about a module that its
package has already imported.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from schemas import settings
from workers.engines.llamacpp.engine import LlamaCppEngine
from workers.process.program import ProcessFailed
from workers.process.supervised import Supervised

NAME = "embedded"
MODEL_ID = "smollm2-135m-instruct"
"""The name under which the small model of the quickstart is served."""
SLOTS = 4
KEY_VARIABLE = "LLAMA_API_KEY"
"""As llama-server itself calls it."""


def quickstart() -> settings.Engine:
    """The engine for a worker without a configured one. Raises ModelMissing."""
    from workers.engines.llamacpp import server

    server.default_model()
    if importlib.util.find_spec("xllamacpp") is None:
        raise server.ModelMissing(f"xllamacpp is not installed: {server.INSTALL}")
    return settings.Engine(name=NAME, kind="embedded")


class EmbeddedEngine(LlamaCppEngine):
    kind = "embedded"


def started(config: settings.Engine) -> Supervised:
    return Supervised(config, EmbeddedEngine, command, KEY_VARIABLE)


def command(config: settings.Engine) -> list[str]:
    """The command that starts the server. Raises ProcessFailed if the model is not installed."""
    from workers.engines.llamacpp import server

    try:
        file = "{file}" if config.file else str(server.default_model())
    except server.ModelMissing as fault:
        raise ProcessFailed(str(fault)) from None
    own = Path(config.file).stem if config.file else MODEL_ID
    return [
        # -P: modules in the server's own folder must not hide others of the same name.
        *(sys.executable, "-P", server.__file__, "--parent-stdin", "--port", "{port}"),
        *("--model", file, "--alias", config.models[0] if config.models else own),
        *("--slots", str(config.slots or SLOTS), "--context", str(config.context)),
    ]
