"""Real servers behind one ingress, for the tests of the client libraries.

Five llama.cpp servers: the small chat model as it is, the same one with templates that know tools
and reasoning, and real embeddings, which also rank documents. Each has a worker of its own.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

from deploy.nats import broker as brokers
from tests.acceptance.conftest import MODEL, running_llama
from tests.builders import minilm
from tests.fabric import Fabric, fabric

DATA = Path(__file__).parents[1] / "data"
TOOLS_MODEL = "smollm2-tools"
THINKING_MODEL = "smollm2-think"
EMBEDDINGS_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
RANKING_MODEL = "minilm-rank"
ALIASES = {"gpt-4o-mini": MODEL, "text-embedding-3-small": EMBEDDINGS_MODEL}


def embeddings(kind: str = "--embedding", alias: str = EMBEDDINGS_MODEL) -> list[str]:
    """Options for a server with the embedding model, which is made the first time. As a ranker it
    has no head that was trained for it: its ranks mean nothing."""
    built = minilm.build(lambda line: print(line, file=sys.stderr))
    model = ("--model", str(built.file), "--alias", alias)
    return [*model, kind, "--context", "2048"]


def template(name: str, alias: str) -> list[str]:
    return ["--chat-template", str(DATA / name), "--alias", alias]


@asynccontextmanager
async def surface(home: Path) -> AsyncIterator[Fabric]:
    with ExitStack() as stack:
        servers = [
            stack.enter_context(running_llama()),
            stack.enter_context(running_llama(*template("tools.jinja", TOOLS_MODEL))),
            stack.enter_context(running_llama(*template("think.jinja", THINKING_MODEL))),
            stack.enter_context(running_llama(*embeddings())),
            stack.enter_context(running_llama(*embeddings("--rerank", RANKING_MODEL))),
        ]
        broker = stack.enter_context(brokers.start(home / "broker", 0, 0))
        async with fabric(broker, home) as made:
            await made.ingress(routes=ALIASES)
            for server in servers:
                await made.worker(server.url)
            models = MODEL, TOOLS_MODEL, THINKING_MODEL, EMBEDDINGS_MODEL, RANKING_MODEL
            await made.served(*models)
            yield made
