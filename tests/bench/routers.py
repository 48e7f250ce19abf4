"""What else can stand in front of engines: routers from PyPI, as their own pages say to start them,
each with a policy that looks at load, if it has one that works with these engines.

They are the extra `routers` of ``pyproject.toml``, of which each is installed by itself into
`.cache`, which Git ignores.
"""

from __future__ import annotations

import contextlib
import json
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench import procs
from tests.bench.bench import MODEL
from tests.bench.system import Engine, System
from tests.bench.system import started as headrace
from tests.clients.install import Packages
from workers.process.ports import free, taken

READY_SECONDS = 180.0
CACHE = procs.ROOT / ".cache" / "routers"
KEY = "sk-" + "5e" * 16


@dataclass(frozen=True)
class Router:
    """`package`: as `pip` is told. `command`: its program and arguments, given the folder that it
    is installed in, one for its files, its port and the engines."""

    package: str
    command: Callable[[Path, Path, int, Sequence[Engine]], list[str]]
    ready: str = "/health"

    @property
    def packages(self) -> Packages:
        return Packages("pip", (self.package,), CACHE)


def _vllm_router(folder: Path, work: Path, port: int, engines: Sequence[Engine]) -> list[str]:
    urls = [engine.url for engine in engines]
    program = str(folder / "bin" / "vllm-router")
    return [
        *(program, "--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(port + 1)),
        *("--policy", "power_of_two", "--worker-urls", *urls),
    ]


def _smg(folder: Path, work: Path, port: int, engines: Sequence[Engine]) -> list[str]:
    urls = [engine.url for engine in engines]
    program = str(folder / "bin" / "smg")
    return [
        *(program, "launch", "--host", "127.0.0.1", "--port", str(port)),
        *("--prometheus-port", str(port + 1), "--policy", "least_load", "--worker-urls", *urls),
    ]


# LiteLLM stays with its own, `simple-shuffle`: `least-busy` sent all streams to one engine.
def _litellm(folder: Path, work: Path, port: int, engines: Sequence[Engine]) -> list[str]:
    config = work / "litellm.json"
    deployments = [
        {
            "model_name": MODEL,
            "litellm_params": {
                "model": f"openai/{MODEL}", "api_base": f"{each.url}/v1", "api_key": KEY,
            },
        }
        for each in engines
    ]  # fmt: skip
    general = {"master_key": KEY}
    config.write_text(json.dumps({"model_list": deployments, "general_settings": general}))
    program = str(folder / "bin" / "litellm")
    alone = (
        "/usr/bin/env",
        "LITELLM_LOCAL_MODEL_COST_MAP=True",
    )  # else it asks the internet at each start
    return [*alone, program, "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]


ROUTERS = {
    "vllm-router": Router("vllm-router", _vllm_router),
    "smg": Router("smg", _smg),
    "litellm": Router("litellm[proxy]", _litellm, "/health/liveliness"),
}
HEADRACE = "headrace"
SYSTEMS = (HEADRACE, *ROUTERS)


def declared() -> list[str]:
    """The packages of the extra."""
    told = tomllib.loads((procs.ROOT / "pyproject.toml").read_text())
    found: list[str] = told["project"]["optional-dependencies"]["routers"]
    return found


@contextlib.contextmanager
def started(name: str, work: Path, engines: Sequence[Engine]) -> Iterator[System]:
    """The system of that name before these engines, ready to serve; stopped at the end. Raises
    procs.NotReady."""
    if name == HEADRACE:
        with headrace(work, MODEL, engines) as system:
            yield system
        return
    with router(ROUTERS[name], name, work, engines) as system:
        yield system


@contextlib.contextmanager
def router(router: Router, name: str, work: Path, engines: Sequence[Engine]) -> Iterator[System]:
    """One of these before the engines, as `started` has it."""
    work.mkdir(parents=True)
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    argv = router.command(router.packages.folder, work, port, engines)
    with procs.running(name, argv, work / f"{name}.log") as process:
        process.wait_http(url + router.ready, lambda _: True, READY_SECONDS)
        yield System(url, KEY, {name: process.pid})


def _free_port() -> int:
    """Of which the next one is free, too: some of these programs listen on both."""
    while taken((port := free()) + 1):
        pass
    return port
