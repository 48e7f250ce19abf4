"""Engines that run on this machine: at the usual ports, and programs of this user that listen.

Each is asked what it is and which models it has. Nothing but its pages is asked: no job is run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import orjson

from deploy.engines import processes
from deploy.engines.processes import PROGRAMS, Process
from schemas import settings
from workers import engines
from workers.engines import identity
from workers.engines.base import EngineFault
from workers.engines.http.upstream import Upstream
from workers.process import ports

USUAL = (8080, 8081, 8082, 8000, 8001, 11434, 1234, 7860, 5001, 30000)
"""Where llama-server and whisper-server, vLLM, Ollama, LM Studio and sd-server, pages of image
models, KoboldCpp and SGLang listen unless they are told otherwise."""
PATIENCE = 15.0
"""Seconds for an engine to say what it is, and again to list its models: it may be busy."""
_GLANCE = 2.0
"""Seconds for whatever listens at a usual port to say that it is one."""
_PAGE = "/v1/models"
_MOST = 2**20
_WILD = {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}
_WANTS_KEY = (401, 403)


@dataclass(frozen=True, slots=True)
class Place:
    """Where something listens. `program`: the engine's that does, "" if it is not known."""

    host: str
    port: int
    program: str = ""
    pid: int = 0

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Found:
    """An engine that runs. `kind`: of `workers.engines.KINDS`. `wants_key`: it answers to those
    with its key alone. `fault`: why its models are not known."""

    url: str
    kind: str
    models: tuple[str, ...] = ()
    slots: int = 0
    program: str = ""
    pid: int = 0
    wants_key: bool = False
    fault: str = ""


async def look() -> list[Found]:
    """All that answer, by port."""
    known = processes.own()
    asked = []
    for each in places(known):
        patience = PATIENCE if each.program else _GLANCE
        asked.append(ask(each.url, program=each.program, pid=each.pid, patience=patience))
    return told(each for each in await asyncio.gather(*asked) if each is not None)


def told(found: Iterable[Found]) -> list[Found]:
    """Without ports at which a program says something else to its own processes. Pure."""
    every = list(found)
    sound = {each.pid for each in every if not each.fault}
    return [each for each in every if not each.fault or each.pid not in sound]


def places(known: Mapping[int, Process]) -> list[Place]:
    """Where engines may listen. Those that a worker of Headrace has started, and servers that an
    engine has started for itself, are left out."""
    listeners = ports.listeners()
    if not listeners:  # nothing can be known of processes here
        return [Place(ports.LOOPBACK, port) for port in USUAL]
    found: dict[int, Place] = {}
    passed = set[int]()
    for process in known.values():
        over = list(processes.above(process.pid, known))
        own = bool(process.role) or any(each.role or each.program for each in over)
        if not own and not process.program:
            continue
        for host, port in processes.addresses(process.pid, listeners):
            if own:
                passed.add(port)
            else:
                found[port] = Place(_called(host), port, process.program, process.pid)
    for host, port in listeners.values():
        if port in USUAL and port not in passed:
            found.setdefault(port, Place(_called(host), port))
    return [found[port] for port in sorted(found)]


def _called(host: str) -> str:
    """The address by which what listens there is asked."""
    return _WILD.get(host, host.removeprefix("::ffff:"))


async def ask(
    url: str,
    *,
    kind: str = "",
    key: str = "",
    program: str = "",
    pid: int = 0,
    patience: float = PATIENCE,
) -> Found | None:
    """What answers at `url`; None if it is no engine. `kind`: what the user says that it is.
    `patience`: seconds for it to say so."""
    http = Upstream("engine", url, key)
    try:
        said = await identity.ask(http, patience)
        kind = kind or said or PROGRAMS.get(program, "")
        status = await _status(http, patience)
        if status in _WANTS_KEY and (kind or program):
            return Found(url, kind, program=program, pid=pid, wants_key=True)
        if not kind and status != 200:
            return None
    except EngineFault as fault:
        if not program:
            return None
        return Found(url, PROGRAMS[program], program=program, pid=pid, fault=fault.message)
    finally:
        await http.close()
    return await _described(Found(url, kind or "openai", program=program, pid=pid), key)


async def _status(http: Upstream, patience: float) -> int:
    """Of the page with its models; 0 if it is none of a server with OpenAI's API. Raises
    EngineFault."""
    status, _, page = await http.head_and_page(_PAGE, patience, _MOST)
    if status != 200:
        return status
    try:
        return 200 if isinstance(orjson.loads(page)["data"], list) else 0
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return 0


async def _described(found: Found, key: str) -> Found:
    """With its models and slots, as a worker would see them."""
    given = {"name": "engine", "kind": found.kind, "url": found.url, "api_key": key}
    engine = engines.build(settings.Engine.model_validate(given))
    try:
        async with asyncio.timeout(PATIENCE):
            await engine.open()
            offer = await engine.discover()
    except TimeoutError:
        return _with(found, fault=f"it did not list its models within {PATIENCE:g} s")
    except EngineFault as fault:
        return _with(found, fault=fault.message)
    finally:
        await engine.close()
    names = tuple(model.id for model in offer.models)
    return _with(found, models=names, slots=offer.slots)


def _with(found: Found, models: tuple[str, ...] = (), slots: int = 0, fault: str = "") -> Found:
    return Found(found.url, found.kind, models, slots, found.program, found.pid, False, fault)


def same(one: str, other: str) -> bool:
    """Whether two URLs lead to the same engine, as far as can be told from them. Pure."""
    return _normal(one) == _normal(other)


def _normal(url: str) -> tuple[str, str, int, str]:
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    local = ports.LOOPBACK if host in ("localhost", "::1", "0.0.0.0") else host
    return parts.scheme, local, port, parts.path.rstrip("/")


def new(found: Iterable[Found], configured: Iterable[settings.Engine]) -> list[Found]:
    """Those that no engine of the settings leads to."""
    urls = [engine.url for engine in configured if engine.url]
    return [each for each in found if not any(same(each.url, url) for url in urls)]
