"""What the commands have in common: their options, and how they find the broker and end."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from deploy import home
from deploy.configure import Unreachable, Where
from schemas import log
from schemas.settings import Log, SettingsError

Work = Coroutine[Any, Any, object]

QUIET = Log(level="error", format="console")
"""For commands whose output is for people."""

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", envvar="HEADRACE_CONFIG", help="TOML file.")
]
DataOption = Annotated[
    Path | None, typer.Option("--data", envvar="HEADRACE_DATA", help="Data directory.")
]
NatsOption = Annotated[
    str | None, typer.Option("--nats", help="Broker, as nats://user:password@host:4222.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="For programs.")]
LogOption = Annotated[str | None, typer.Option("--log-level", help="debug|info|warning|error")]
EngineOption = Annotated[
    list[str] | None,
    typer.Option("--engine", help="NAME=URL of an engine that runs already; may be repeated."),
]
UrlOption = Annotated[str | None, typer.Option(help="Ingress, as http://host:8080.")]
KeyOption = Annotated[str | None, typer.Option(help="API key; default: this machine's own.")]
PlaceArgument = Annotated[int, typer.Argument(min=1, help="As 'headrace dead list' shows it.")]
PlacesArgument = Annotated[
    list[int], typer.Argument(min=1, help="As 'headrace dead list' shows them.")
]
FileArgument = Annotated[Path, typer.Argument(help="One file for all of it.")]
HostOption = Annotated[str | None, typer.Option(help="Address to listen on.")]
PortOption = Annotated[int | None, typer.Option(help="Port to listen on; 0 is any.")]
NodeOption = Annotated[str | None, typer.Option(help="Name of this machine.")]


def where_of(config: Path | None, nats: str | None, data: Path | None) -> Where:
    return Where(home.data_dir(data), config, nats)


def ask(name: str, work: Callable[[], Work], *known: type[Exception]) -> None:
    """A command that looks at what runs, and prints it."""
    from schemas.bus import BusError

    log.configure(QUIET, name)
    with one_line(Unreachable, SettingsError, BusError, *known):
        asyncio.run(work())


@contextlib.contextmanager
def one_line(*known: type[Exception]) -> Iterator[None]:
    """End with the message of a fault that the user can mend, and without a traceback."""
    try:
        yield
    except known as fault:
        sys.exit(f"headrace: {fault}")
    except KeyboardInterrupt:
        sys.exit(0)
