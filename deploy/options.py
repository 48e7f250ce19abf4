"""What the commands have in common: their options, and how they find the broker and end."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Coroutine, Iterator
from functools import wraps
from inspect import Signature, signature
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec, TypeVar

import typer

from deploy import home
from deploy.configure import CommandFailed, Where
from schemas import log
from schemas.settings import Log, SettingsError

P = ParamSpec("P")
R = TypeVar("R")

EVERYWHERE = "0.0.0.0"
QUIET = Log(level="error", format="console")
"""For commands whose output is for people."""

ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", envvar="HEADRACE_CONFIG", help="TOML file.")
]
DataOption = Annotated[
    Path | None, typer.Option("--data", envvar="HEADRACE_DATA", help="Data directory.")
]
NatsOption = Annotated[str | None, typer.Option("--nats", help="Broker, as nats://user@host:4222.")]
JsonOption = Annotated[bool, typer.Option("--json", help="For programs.")]
LogOption = Annotated[str | None, typer.Option("--log-level", help="debug|info|warning|error")]
LogFormOption = Annotated[
    str | None, typer.Option("--log", help="json|console; by default console on a terminal.")
]
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
ProcessesOption = Annotated[
    int | None,
    typer.Option(help="Ingresses that listen there together, each on a core of its own."),
]
OfOption = Annotated[
    Path | None, typer.Option("--of", hidden=True, help="One of several: its own socket.")
]
NodeOption = Annotated[str | None, typer.Option(help="Name of this machine.")]
JoinOption = Annotated[
    str | None,
    typer.Option(
        envvar="HEADRACE_JOIN",
        metavar="TOKEN",
        show_default=False,
        help="Join the fabric whose 'headrace node invite' made it; @FILE, or - for stdin.",
    ),
]
ShareOption = Annotated[
    bool | None,
    typer.Option("--share", help="Let other machines join: the broker listens, with TLS."),
]
ShareAsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--share-as", help="--share, by this name or address of this machine; may be repeated."
    ),
]


def where_of(
    config: ConfigOption = None, nats: NatsOption = None, data: DataOption = None
) -> Where:
    return Where(home.data_dir(data), config, nats)


def sharing(share: bool | None, share_as: list[str] | None) -> dict[str, object]:
    """The flags of a broker that other machines are to reach."""
    if not share and not share_as:
        return {}
    return {"host": EVERYWHERE, "names": share_as or None}


def placed(command: Callable[Concatenate[Where, P], R]) -> Callable[..., R]:
    """`command` with the options of `where_of` in place of its first parameter."""

    @wraps(command)
    def run(
        config: Path | None, nats: str | None, data: Path | None, *args: P.args, **own: P.kwargs
    ) -> R:
        return command(where_of(config, nats, data), *args, **own)

    _, *own = signature(command, eval_str=True).parameters.values()
    # typer makes the options from the signature. Those of `where_of` come last, as all of them have
    # defaults, and `own` may begin with arguments that have none.
    options = signature(where_of, eval_str=True).parameters.values()
    run.__signature__ = Signature([*own, *options])  # type: ignore[attr-defined]
    return run


def asks(
    work: Callable[Concatenate[Where, P], Coroutine[Any, Any, int | None]],
) -> Callable[..., None]:
    """A command that looks at what runs, and prints it. `work` may return an exit code."""

    @wraps(work)
    def run(where: Where, /, *args: P.args, **own: P.kwargs) -> None:
        from schemas.bus import BusError

        log.configure(QUIET, "headrace")
        with one_line(CommandFailed, SettingsError, BusError):
            sys.exit(asyncio.run(work(where, *args, **own)))

    return placed(run)


@contextlib.contextmanager
def one_line(*known: type[Exception]) -> Iterator[None]:
    """End with the message of a fault that the user can mend, and without a traceback."""
    try:
        yield
    except known as fault:
        sys.exit(f"headrace: {fault}")
    except KeyboardInterrupt:
        sys.exit(0)
