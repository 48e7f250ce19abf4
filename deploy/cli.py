"""The command ``headrace``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
import uvloop

from deploy import configure, home
from schemas import log
from schemas.bus import BusError
from schemas.settings import Settings, SettingsError

T = TypeVar("T")

app = typer.Typer(
    name="headrace",
    help="One OpenAI-compatible address in front of all your GPUs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", envvar="HEADRACE_CONFIG", help="TOML file.")
]
DataOption = Annotated[
    Path | None, typer.Option("--data", envvar="HEADRACE_DATA", help="Data directory.")
]
NatsOption = Annotated[
    str | None, typer.Option("--nats", help="Broker, as nats://user:password@host:4222.")
]
LogOption = Annotated[str | None, typer.Option("--log-level", help="debug|info|warning|error")]
EngineOption = Annotated[
    list[str] | None,
    typer.Option("--engine", help="NAME=URL of an engine that runs already; may be repeated."),
]


@app.command()
def ingress(
    config: ConfigOption = None,
    nats: NatsOption = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 is any.")] = None,
    data: DataOption = None,
    log_level: LogOption = None,
) -> None:
    """Serve OpenAI's API."""
    flags = {"ingress": {"host": host, "port": port}, "log": {"level": log_level}}
    settings = _settings("ingress", config, data, flags, nats)
    from ingress.server import Ingress

    _run(Ingress(settings).run(), settings, "ingress")


@app.command()
def worker(
    config: ConfigOption = None,
    nats: NatsOption = None,
    engine: EngineOption = None,
    node: Annotated[str | None, typer.Option(help="Name of this machine.")] = None,
    data: DataOption = None,
    log_level: LogOption = None,
) -> None:
    """Serve the engines of this machine."""
    flags: dict[str, Any] = {"worker": {"node": node}, "log": {"level": log_level}}
    if engine:
        flags["engines"] = _checked(lambda: [configure.parse_engine(text) for text in engine])
    settings = _settings("worker", config, data, flags, nats)
    from workers.node import Worker

    _run(Worker(settings).run(), settings, "worker")


def _settings(
    role: str, config: Path | None, data: Path | None, flags: dict[str, Any], nats: str | None
) -> Settings:
    place = home.data_dir(data)
    return _checked(lambda: configure.resolve(role, config, place, flags, nats))


def _checked(call: Callable[[], T]) -> T:
    try:
        return call()
    except SettingsError as fault:
        raise SystemExit(f"headrace: {fault}") from None


def _run(work: Coroutine[Any, Any, None], settings: Settings, process: str) -> None:
    log.configure(settings.log, process)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(work)
    except BusError as fault:
        sys.exit(f"headrace: {fault}")


def main() -> None:
    app()
