"""What ``headrace up`` will start, checked before it starts anything."""

from __future__ import annotations

import contextlib
import errno
import shlex
import shutil
import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy import configure, home
from deploy.console import guard, library
from deploy.nats import store as stores
from deploy.nats.errors import BrokerError, StoreBusy
from deploy.nodes import kept
from schemas.settings import Console, Ingress, Settings, SettingsError

_NEIGHBOURS = 10
"""Ports from its default on, of which the console takes the first that is free."""
ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}
"""Listening addresses that clients cannot call, and the addresses that they call instead."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`engines`: the texts of --engine; `port`: where the ingress will listen; `moved_from`: the
    default port, if that was taken; `key`: this user's own; `console_port`: where the console will
    listen, 0 if there is none."""

    settings: Settings
    data: Path
    config: Path | None
    engines: tuple[str, ...]
    node: str | None
    log_level: str | None
    port: int
    moved_from: int
    key: str
    verbose: bool
    console_port: int = 0

    @property
    def console_url(self) -> str:
        """How browsers call the console; "" without one."""
        if not self.console_port:
            return ""
        return guard.origin_of(self.settings.console.public_url) or self.console_here

    @property
    def console_here(self) -> str:
        """How this machine calls it."""
        return url_of(self.settings.console.host, self.console_port)

    @property
    def url(self) -> str:
        return url_of(self.settings.ingress.host, self.port)

    @property
    def has_fallback(self) -> bool:
        """Whether jobs may go to providers."""
        settings = self.settings
        return settings.fallback.enabled and any(route.cloud for route in settings.route)

    def flags(self, role: str) -> list[str]:
        """The flags of `headrace ROLE`."""
        level = ["--log-level", self.log_level] if self.log_level else []
        common = [*self._place(), *level]
        if role == "ingress":
            edge = self.settings.ingress
            several = ["--processes", str(edge.processes)] if edge.processes > 1 else []
            return [*common, "--host", edge.host, "--port", str(self.port), *several]
        if role == "console":
            host = self.settings.console.host
            return [*common, "--host", host, "--port", str(self.console_port)]
        node = ["--node", self.node] if self.node else []
        return [*common, *node, *(_named(self.engines) if role == "worker" else ())]

    def command(self, verb: str, *more: str) -> str:
        """A `headrace VERB` that can be pasted into another terminal. `more`: its other words, as
        options belong behind them."""
        place = self._place() if self.data != home.data_dir() or self.config else []
        if verb == "worker":
            # A second worker of the same engine would send it more jobs than it has slots. Only
            # engines that each worker starts for itself can be named again.
            own = all("echo://" in text for text in self.engines) and not self.settings.engines
            place += _named(self.engines if own else ["NAME=URL"])
        return shlex.join([*own_command(), verb, *more, *place])

    def _place(self) -> list[str]:
        config = ["--config", str(self.config)] if self.config else []
        return ["--data", str(self.data), *config]


def make(
    flags: dict[str, Any],
    *,
    config: Path | None,
    data: Path,
    engines: list[str],
    node: str | None,
    verbose: bool,
) -> Plan:
    """Raises SettingsError if anything is missing or wrong; the message says what to do."""
    configure.parse_engines(engines)  # the worker would fail where nobody sees it
    settings = configure.read(config, flags)
    own_broker(settings)
    if settings.fallback.enabled:
        configure.paid(settings, keys=True)
    if not engines and not settings.engines:
        configure.quickstart()
    home.make(data)
    unused(data)
    wanted = settings.ingress.port
    port = _free_port("ingress", settings.ingress, tries=1)
    console_port = 0
    if settings.console.enabled and library.is_installed():
        console_port = _free_port("console", settings.console, tries=_NEIGHBOURS, but=port)
        home.console_key(data)
    return Plan(
        settings=settings,
        data=data,
        config=config.absolute() if config else None,
        engines=tuple(engines),
        node=node,
        log_level=(flags.get("log") or {}).get("level"),
        port=port,
        moved_from=wanted if wanted and port != wanted else 0,
        key=home.own_key(data),
        verbose=verbose,
        console_port=console_port,
    )


def own_broker(settings: Settings) -> None:
    """Raises SettingsError for settings that `up` cannot keep with a broker of its own."""
    if "url" in settings.nats.model_fields_set:
        raise SettingsError(
            "'up' starts a broker of its own, but the setting nats.url names another: leave it "
            "out, or start 'headrace ingress' and 'headrace worker'"
        )
    if settings.nats.replicas > 1:
        raise SettingsError("'up' starts one broker, so nats.replicas must be 1")


def unused(data: Path) -> None:
    """Raises SettingsError if a broker runs on `data`, or none can."""
    if (node := kept.any_of(data)) is not None:
        raise SettingsError(
            f"{data} is that of the node {node.name!r} of another fabric, whose processes would "
            f"not find a broker here: name another directory with --data, or delete "
            f"{data / kept.FOLDER} to leave that fabric"
        )
    try:
        with stores.claimed(home.broker_store(data)):
            return
    except StoreBusy as fault:
        raise SettingsError(
            f"headrace runs already on {data} ({fault}). See it with 'headrace status', "
            "or name another directory with --data"
        ) from None
    except BrokerError as fault:
        raise SettingsError(str(fault)) from None


def _named(engines: Iterable[str]) -> list[str]:
    """The flags that name `engines`."""
    return [part for each in engines for part in ("--engine", each)]


def url_of(host: str, port: int) -> str:
    """How one on this machine calls who listens there."""
    bare = f"[{host}]" if ":" in host else host
    return f"http://{ANYWHERE.get(host, bare)}:{port}"


def _free_port(what: str, section: Ingress | Console, *, tries: int, but: int = 0) -> int:
    """The port of the settings; if the default one is taken, the next of `tries` that is free, or
    any. `but`: one that another will have."""
    host, port = section.host, section.port
    chosen = "port" in section.model_fields_set and port != 0
    try:
        if (found := _bound(host, port)) != but:
            return found
        if chosen:
            raise _taken(what, section, "the ingress is to have it")
    except OSError as fault:
        if fault.errno != errno.EADDRINUSE or chosen:
            raise _taken(what, section, fault.strerror or str(fault)) from None
    for near in range(port + 1, port + tries):
        with contextlib.suppress(OSError):
            if near != but:
                return _bound(host, near)
    return _bound(host, 0)


def _taken(what: str, section: Ingress | Console, why: str) -> SettingsError:
    mend = "with --host and --port" if what == "ingress" else f"in [{what}]"
    return SettingsError(
        f"the {what} cannot listen on {section.host}:{section.port}: {why}. "
        f"Name another address {mend}"
    )


def _bound(host: str, port: int) -> int:
    """The port, free and closed again: another process will listen there. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as listener:
        return int(listener.getsockname()[1])


def own_command() -> list[str]:
    """The command that started this program: just ``headrace`` if PATH leads to it."""
    called = Path(sys.argv[0])
    if called.name != "headrace":
        return [sys.executable, "-m", "deploy"]
    found = shutil.which("headrace")
    if found and Path(found).samefile(called):
        return ["headrace"]
    here = Path.cwd()
    place = called.absolute()
    return [str(place.relative_to(here)) if place.is_relative_to(here) else str(place)]
