"""The system under test: broker, ingress and workers as processes, as an operator starts them.

All that the benchmarks know of Headrace's command line and configuration is in this file.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson
from pydantic import SecretStr

from deploy import own_broker
from deploy.nats import binary, broker
from deploy.nats.broker import Broker
from fallback.credits.ledger import Ledger
from schemas import bus as buses
from schemas import subjects
from schemas.settings import Nats
from tests.bench import procs
from workers.process import ports

HEADRACE = (str(Path(sys.executable).with_name("headrace")),)
READY_SECONDS = 60.0


@dataclass(frozen=True)
class Engine:
    """One engine of the test; each gets a worker. `priority` 0 is asked first."""

    name: str
    url: str
    priority: int = 0


@dataclass(frozen=True)
class System:
    """A ready system: its address, a key for it, and its process ids by part."""

    url: str
    key: str
    pids: dict[str, int] = field(default_factory=dict)


@contextlib.contextmanager
def started(
    work: Path,
    model: str,
    engines: Sequence[Engine],
    provider: str = "",
    claim: float = 0.0,
    program: Sequence[str] = HEADRACE,
    processes: int = 1,
    extra: Mapping[str, Any] = MappingProxyType({}),
    affinity: Mapping[str, Any] = MappingProxyType({}),
    common: Mapping[str, Any] = MappingProxyType({}),
) -> Iterator[System]:
    """Broker, ingress and a worker for each engine, ready to serve `model`; stopped at the end.

    With a `provider` (its URL) there is also a fallback, for which credits are granted; it gets
    what no worker takes within `claim` seconds. Files and logs go to `work`, which must be new.
    `program` is what runs a part, whose name stands for ``{part}`` in it. `processes`: of the
    ingress, each with a line of its own in `System.pids`. `extra`: sections of its settings.
    `affinity`: its settings for that. `common`: sections of all processes' settings. Raises
    procs.NotReady with the end of a log, and BrokerError.
    """
    work.mkdir(parents=True)
    secret, port = secrets.token_hex(16), ports.free()
    url = f"http://127.0.0.1:{port}"
    with contextlib.ExitStack() as stack:
        nats = stack.enter_context(own_broker_of(work / "store"))
        pids = {"broker": nats.pid}
        cloud = paid(work, model, provider, claim) if provider else {}
        own = edge(port, secret, processes)
        own["ingress"] |= affinity
        ingress = stack.enter_context(
            _headrace(
                work, program, "ingress", nats, "ingress", {**own, **cloud, **common, **extra}
            )
        )
        pids["ingress"] = ingress.pid
        if provider:
            asyncio.run(_grant(nats))
            books = dict(zip(("user", "password"), nats.users["ledger"], strict=True))
            more = {"ledger": books, **cloud, **common}
            fallback = stack.enter_context(
                _headrace(work, program, "fallback", nats, "fallback", more)
            )
            pids["fallback"] = fallback.pid
        for engine in engines:
            part = "worker" if len(engines) == 1 else f"worker {engine.name}"
            worker = stack.enter_context(
                _headrace(work, program, "worker", nats, part, {**pull(engine), **common})
            )
            pids[part] = worker.pid
        ingress.wait_http(url + "/readyz", lambda _: True, READY_SECONDS)
        bearer = {"Authorization": f"Bearer {secret}"}
        ingress.wait_http(
            url + "/v1/models", lambda body: model in _models(body), READY_SECONDS, **bearer
        )
        if processes > 1:
            pids |= {f"ingress {n}": pid for n, pid in enumerate(_children(ingress.pid), 1)}
        yield System(url, secret, pids)


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def own_broker_of(store: Path) -> AbstractContextManager[Broker]:
    """As `headrace up` starts it."""
    return broker.start(store, port=0, http_port=0, cores=own_broker.ALONE)


def edge(port: int, secret: str, processes: int = 1) -> dict[str, Any]:
    """Settings of the ingress, apart from the broker's."""
    key = {"name": "bench", "account": "bench", "secret": secret}
    listens = {"host": "127.0.0.1", "port": port, "processes": processes}
    return {"ingress": listens, "keys": [key]}


def pull(engine: Engine) -> dict[str, Any]:
    """Settings of the worker of `engine`, apart from the broker's."""
    return {"worker": {"node": engine.name}, "engines": [{"kind": "llamacpp", **asdict(engine)}]}


def paid(work: Path, model: str, url: str, claim: float) -> dict[str, Any]:
    """Settings of a route that leads to a provider, and of the provider; with a `claim` workers may
    take its jobs for so many seconds."""
    shared = {"model": model} if claim else {}
    key = work / "provider.key"
    key.write_text(secrets.token_hex(16))
    provider = {"name": "mock", "url": url, "key_file": str(key), "concurrency": 64}
    return {
        "route": [{"name": model, **shared, "claim": claim, "providers": [f"mock/{model}"]}],
        "providers": [provider],
        "prices": [{"provider": "mock", "model": model, "input": 1, "output": 1}],
    }


async def _grant(nats: Broker) -> None:
    user, password = nats.users["ledger"]
    login = Nats(url=nats.url, user=user, password=SecretStr(password))
    bus = await buses.connect(login, "bench", f"{subjects.INBOX_LEDGER}.bench")
    ledger = Ledger(bus)
    await ledger.open()
    await ledger.grant("bench", 10**12)
    await ledger.close()
    await bus.close()


def nats_version() -> str:
    """The version of the nats-server that is used."""
    return ".".join(map(str, binary.check(binary.find())))


def _headrace(
    work: Path,
    program: Sequence[str],
    command: str,
    nats: Broker,
    part: str,
    more: dict[str, Any],
) -> AbstractContextManager[procs.Process]:
    """`program command --config FILE`, logging to a file."""
    user, password = nats.users[command]
    name = part.replace(" ", "-")
    config = work / f"{name}.toml"
    login = {"url": nats.url, "user": user, "password": password}
    config.write_text(toml({"nats": login, **more}))
    argv = [*(word.format(part=name) for word in program), command, "--config", str(config)]
    return procs.running(part, argv, work / f"{name}.log")


def toml(sections: dict[str, Any]) -> str:
    """TOML of sections and lists of sections of strings and numbers (which JSON writes alike)."""
    lines: list[str] = []
    for name, content in sections.items():
        many = isinstance(content, list)
        for section in content if many else [content]:
            lines.append(f"[[{name}]]" if many else f"[{name}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in section.items()]
    return "\n".join([*lines, ""])


def _models(body: bytes) -> list[str]:
    return [str(model["id"]) for model in orjson.loads(body)["data"]]
