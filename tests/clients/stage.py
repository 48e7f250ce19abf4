"""What clients are run against: the fabric before the caller of tools or a real llama.cpp, or,
to compare, that llama.cpp alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from deploy.nats import broker as brokers
from tests.acceptance.conftest import running_llama
from tests.acceptance.surface.servers import TOOLS_MODEL, template
from tests.clients.caller import MODEL, Caller, Record
from tests.clients.clients import FEW
from tests.fabric import fabric

Engine = Literal["calls", "real", "direct"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
_EMBEDDER = "echo"


@dataclass(frozen=True, slots=True)
class Stage:
    url: str
    model: str
    embedder: str
    record: Record


@asynccontextmanager
async def stage(engine: Engine, home: Path, context: int) -> AsyncIterator[Stage]:
    """`context`: tokens of a real engine."""
    record = Record()
    async with AsyncExitStack() as stack:
        if engine == "calls":
            asked, model = (await stack.enter_async_context(Caller(record))).url, MODEL
        else:
            options = ("--slots", "1", "--longest", str(FEW), "--context", str(context))
            named = template("tools.jinja", TOOLS_MODEL)
            asked, model = stack.enter_context(running_llama(*options, *named)).url, TOOLS_MODEL
        if engine == "direct":
            yield Stage(asked, model, "", record)
            return
        broker = stack.enter_context(brokers.start(home / "broker", 0, 0))
        made = await stack.enter_async_context(fabric(broker, home))
        await made.ingress(routes={"*": model})
        await made.worker(asked)
        await made.worker(f"echo://?model={_EMBEDDER}")
        await made.served(model, _EMBEDDER)
        record.heard.clear()
        yield Stage(made.url, model, _EMBEDDER, record)
