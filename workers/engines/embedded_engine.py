"""The embedded engine as a worker sees it: a llama.cpp server that the worker starts itself.

Its program, `workers.engines.embedded`, is run by its path, which spares it the imports of this
package, and imported here only when it is asked, as `python -m` warns of a module that its own
package has imported before.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from schemas import settings
from workers.engines.base import EngineFault, Offer
from workers.engines.llamacpp import LlamaCppEngine
from workers.supervisor import Command, ProcessFailed, Supervisor

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
    """Ready once its process is; that one is started again when it dies."""

    kind = "embedded"

    def __init__(self, config: settings.Engine) -> None:
        super().__init__(config)
        self._process: Supervisor | None = None

    async def close(self) -> None:
        await super().close()
        if self._process is not None:
            await self._process.stop()

    async def discover(self) -> Offer:
        """Waits while the model is loaded; then as llama.cpp's server says."""
        if self._process is None:
            self._process = self._started()
        try:
            self._http.move(await self._process.ready())
        except ProcessFailed as fault:
            raise EngineFault(str(fault), away=True) from None
        return await super().discover()

    def _started(self) -> Supervisor:
        from workers.engines.embedded import ModelMissing

        try:
            process = Supervisor(self.name, Command(_args(self._config)))
        except ModelMissing as fault:
            raise EngineFault(str(fault)) from None
        process.start()
        return process


def _args(config: settings.Engine) -> tuple[str, ...]:
    from workers.engines import embedded

    file = Path(config.file).expanduser() if config.file else embedded.default_model()
    alias = config.models[0] if config.models else (file.stem if config.file else MODEL_ID)
    return (
        *(sys.executable, "-P", embedded.__file__, "--parent-stdin"),
        *("--model", str(file), "--alias", alias),
        *("--slots", str(config.slots or SLOTS), "--context", str(config.context)),
    )
