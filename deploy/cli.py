"""The command ``headrace``.

A command imports what it alone needs: the broker's client takes a quarter of a second.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from importlib import metadata
from typing import Annotated, Any

import typer

from deploy import cli_kept, configure, home
from deploy.configure import Where
from deploy.options import (
    QUIET,
    ConfigOption,
    DataOption,
    EngineOption,
    FileArgument,
    HostOption,
    JsonOption,
    KeyOption,
    LogOption,
    NodeOption,
    PortOption,
    UrlOption,
    asks,
    one_line,
    placed,
)
from schemas import log
from schemas.settings import Settings, SettingsError, load

Work = Coroutine[Any, Any, object]

app = typer.Typer(
    name="headrace",
    help="One OpenAI-compatible address in front of all your GPUs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

configuration = typer.Typer(help="The settings.", no_args_is_help=True)
app.add_typer(configuration, name="config")
app.add_typer(cli_kept.credits, name="credits")
app.add_typer(cli_kept.dead, name="dead")


def _tell_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"headrace {metadata.version('headrace')}")
        raise typer.Exit


@app.callback()
def _headrace(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_tell_version, is_eager=True, help="Show it and exit."),
    ] = False,
) -> None: ...


@app.command()
def up(
    config: ConfigOption = None,
    engine: EngineOption = None,
    host: HostOption = None,
    port: PortOption = None,
    node: NodeOption = None,
    data: DataOption = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the logs here.")] = False,
    log_level: LogOption = None,
) -> None:
    """Everything on this machine: broker, ingress, worker, and a model if no engine is named."""
    from deploy import local, plan, screen
    from schemas.bus import BusError

    log.configure(QUIET, "up")
    flags = {"ingress": {"host": host, "port": port}, "log": {"level": log_level}}
    with one_line(SettingsError, local.StartFailed, BusError):
        made = plan.make(
            flags,
            config=config,
            data=home.data_dir(data),
            engines=engine or [],
            node=node,
            verbose=verbose,
        )
        asyncio.run(local.Local(made, screen.Screen()).run())


@app.command()
@placed
def ingress(
    where: Where, host: HostOption = None, port: PortOption = None, log_level: LogOption = None
) -> None:
    """Serve OpenAI's API."""
    from deploy.compat.endpoint import Matrix
    from ingress.server import Ingress, ListenFailed

    flags = {"ingress": {"host": host, "port": port}, "log": {"level": log_level}}

    def run(settings: Settings) -> Work:
        read = partial(configure.resolve, "ingress", where, flags)
        return Ingress(settings, Matrix().entries(), read).run()

    _serve("ingress", run, where, flags, ListenFailed)


@app.command()
@placed
def worker(
    where: Where, engine: EngineOption = None, node: NodeOption = None, log_level: LogOption = None
) -> None:
    """Serve the engines of this machine."""
    from workers.node import Worker

    flags: dict[str, Any] = {"worker": {"node": node}, "log": {"level": log_level}}
    if engine:
        with one_line(SettingsError):
            flags["engines"] = [configure.parse_engine(text) for text in engine]
    read = partial(configure.resolve, "worker", where, flags)
    _serve("worker", lambda found: Worker(found, read).run(), where, flags)


@app.command()
@placed
def fallback(where: Where, node: NodeOption = None, log_level: LogOption = None) -> None:
    """Take what no worker takes in time to paid providers, on prepaid credits."""
    from fallback.node import Fallback

    flags = {"worker": {"node": node}, "log": {"level": log_level}}
    read = partial(configure.resolve, "fallback", where, flags)
    _serve("fallback", lambda found: Fallback(found, read).run(), where, flags)


@app.command()
@asks
async def status(
    where: Where,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again each second.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Who is here, and what waits."""
    from deploy import status as page

    await page.show(where.admin(), watch=watch, as_json=as_json)


@app.command()
@asks
async def doctor(where: Where) -> int:
    """What is wrong, and how to mend it. Exit code 1 if anything is."""
    from deploy import doctor as checks

    return await checks.show(where)


@app.command()
@asks
async def compat(
    where: Where,
    model: Annotated[str | None, typer.Option(help="Probe this model alone.")] = None,
    as_json: JsonOption = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="For a page.")] = False,
    url: UrlOption = None,
    key: KeyOption = None,
) -> None:
    """What each model really does of OpenAI's API: probed now, with small real requests."""
    from deploy.compat import command as matrix

    shape: matrix.Shape = "json" if as_json else "markdown" if markdown else "table"
    await matrix.show(where, url, key, model, shape)


@app.command()
@asks
async def usage(
    where: Where,
    since: Annotated[str, typer.Option(help="7d, 12h, or a day as 2026-11-01.")] = "7d",
    by: Annotated[str, typer.Option(help="Of day, key, model, provider, account.")] = "day,model",
    as_json: JsonOption = False,
) -> None:
    """What workers and providers served, and what was spent at providers."""
    from deploy import credits as journal

    accounts = journal.accounts(where)
    await accounts.usage(journal.since(since), journal.groups(by), as_json)


@app.command()
@asks
async def backup(where: Where, file: FileArgument) -> None:
    """Copy books (credits, usage), API key and settings into a file, while everything runs."""
    from deploy import backup as copies

    with one_line(OSError):
        await copies.backup(where, file)


@app.command()
@asks
async def restore(
    where: Where,
    file: FileArgument,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Lose what is there.")] = False,
) -> None:
    """Put books, key and settings back from a file that is whole."""
    from deploy import backup as copies

    with one_line(OSError):
        await copies.restore(where, file, overwrite)


@configuration.command()
def check(config: ConfigOption = None) -> None:
    """Say "ok", or every fault of file and environment (exit code 2)."""
    try:
        configure.paid(configure.read(config), keys=False)
    except SettingsError as fault:
        typer.echo(str(fault), err=True)
        sys.exit(2)
    typer.echo("ok")


@configuration.command()
def show(config: ConfigOption = None) -> None:
    """Print every setting as it is in force, as TOML; secrets are masked."""
    with one_line(SettingsError):
        typer.echo(configure.render(load(config)), nl=False)


def _serve(
    role: str,
    run: Callable[[Settings], Work],
    where: Where,
    flags: dict[str, Any],
    *known: type[Exception],
) -> None:
    """One process of the fabric, until it is told to stop. A lost terminal is no such word."""
    signal.signal(signal.SIGHUP, lambda *_: None)  # unlike SIG_IGN, no program inherits this
    import uvloop

    from schemas.bus import BusError

    with one_line(SettingsError, BusError, *known):
        settings = configure.resolve(role, where, flags)
        log.configure(settings.log, role)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(settings))


def main() -> None:
    app()
