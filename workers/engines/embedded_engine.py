"""The embedded engine as a worker sees it: a llama.cpp server that is there without a command.

Its program, `workers.engines.embedded`, is run by its path, which spares it the imports of this
package, and imported here only when it is asked, as `python -m` warns of a module that its own
package has imported before.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from schemas import settings
from workers.engines.llamacpp import LlamaCppEngine
from workers.engines.supervised import Supervised
from workers.program import ProcessFailed

NAME = "embedded"
MODEL_ID = "smollm2-135m-instruct"
"""The name under which the small model of the quickstart is served."""
SLOTS = 4


def quickstart() -> settings.Engine:
    """The engine of a worker that was given none. Raises ModelMissing if it is not installed."""
    from workers.engines import embedded

    embedded.default_model()
    if importlib.util.find_spec("xllamacpp") is None:
        raise embedded.ModelMissing(f"xllamacpp is not installed: {embedded.INSTALL}")
    return settings.Engine(name=NAME, kind="embedded")


class EmbeddedEngine(LlamaCppEngine):
    kind = "embedded"


def started(config: settings.Engine) -> Supervised:
    return Supervised(config, EmbeddedEngine, command)


def command(config: settings.Engine) -> list[str]:
    """How to start it. Raises ProcessFailed if it is not installed."""
    from workers.engines import embedded

    try:
        file = "{file}" if config.file else str(embedded.default_model())
    except embedded.ModelMissing as fault:
        raise ProcessFailed(str(fault)) from None
    own = Path(config.file).stem if config.file else MODEL_ID
    return [
        *(sys.executable, "-P", embedded.__file__, "--parent-stdin", "--port", "{port}"),
        *("--model", file, "--alias", config.models[0] if config.models else own),
        *("--slots", str(config.slots or SLOTS), "--context", str(config.context)),
    ]
