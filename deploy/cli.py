"""The command ``headrace``.

A command imports what it alone needs: the broker's client takes a quarter of a second.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from importlib import metadata
from typing import Annotated, Any

import typer

from deploy import (
    cli_console,
    cli_engines,
    cli_kept,
    cli_keys,
    cli_nats,
    cli_nodes,
    configure,
    hidden,
    home,
)
from deploy.configure import CommandFailed, Where
from deploy.options import (
    QUIET,
    ConfigOption,
    DataOption,
    EngineOption,
    FileArgument,
    HostOption,
    JoinOption,
    JsonOption,
    KeyOption,
    LogFormOption,
    LogOption,
    NodeOption,
    OfOption,
    PortOption,
    ProcessesOption,
    ShareAsOption,
    ShareOption,
    UrlOption,
    asks,
    one_line,
    placed,
    sharing,
)
from deploy.serving import Work, join_fabric, run_again, serve
from schemas import log
from schemas.settings import Settings, SettingsError, load

_SHOWN = (
    "other users of this machine can read the secret in this command (ps): name it in the file of "
    "--config, or in the environment, as HEADRACE_NATS__PASSWORD"
)

app = typer.Typer(
    name="headrace",
    help="One OpenAI-compatible address in front of all your GPUs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

configuration = typer.Typer(help="The settings.", no_args_is_help=True)
app.add_typer(configuration, name="config")
app.add_typer(cli_keys.keys, name="key")
app.add_typer(cli_nodes.nodes, name="node")
app.add_typer(cli_nodes.models, name="model")
app.add_typer(cli_engines.engines, name="engine")
app.add_typer(cli_nats.nats, name="nats")
app.add_typer(cli_kept.credits, name="credits")
app.add_typer(cli_kept.dead, name="dead")
app.add_typer(cli_console.console, name="console")


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
    processes: ProcessesOption = None,
    node: NodeOption = None,
    data: DataOption = None,
    share: ShareOption = None,
    share_as: ShareAsOption = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the logs here.")] = False,
    log_level: LogOption = None,
) -> None:
    """Everything on this machine: broker, ingress, worker, and a model if no engine is named."""
    from deploy import local, plan, screen
    from schemas.bus import BusError

    log.configure(QUIET, "up")
    flags = {
        "ingress": {"host": host, "port": port, "processes": processes},
        "log": {"level": log_level},
        "share": sharing(share, share_as),
    }
    with one_line(SettingsError, CommandFailed, BusError):
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
def broker(
    config: ConfigOption = None,
    data: DataOption = None,
    share: ShareOption = None,
    share_as: ShareAsOption = None,
    log_level: LogOption = None,
) -> None:
    """The broker alone, for a machine of its own, and the hub that lets other machines in."""
    from deploy import alone, screen
    from schemas.bus import BusError

    flags = {"log": {"level": log_level}, "share": sharing(share, share_as)}
    with one_line(SettingsError, CommandFailed, BusError):
        settings = alone.checked(config, home.data_dir(data), flags)
        log.configure(settings.log, "broker")
        asyncio.run(alone.Alone(settings, home.data_dir(data), screen.Screen()).run())


@app.command()
@placed
def ingress(
    where: Where,
    host: HostOption = None,
    port: PortOption = None,
    processes: ProcessesOption = None,
    join: JoinOption = None,
    log_level: LogOption = None,
    log_form: LogFormOption = None,
    of: OfOption = None,
) -> None:
    """Serve OpenAI's API."""
    from deploy import several
    from deploy.compat.endpoint import Matrix
    from deploy.nodes import kept, keys
    from ingress.http.listeners import ListenFailed
    from ingress.server import Ingress
    from ingress.siblings import Siblings

    flags = {
        "ingress": {"host": host, "port": port, "processes": processes},
        "log": {"level": log_level, "format": log_form},
    }

    def run(settings: Settings) -> Work:
        if of is None and settings.ingress.processes > 1:
            return several.of(settings.ingress, where, log_level, log_form).run()
        read = partial(configure.resolve, "ingress", where, flags)
        identity = keys.of(settings.nats, settings.vault, kept.renaming(where.data, "ingress"))
        siblings = None if of is None else Siblings(of, settings)
        return Ingress(settings, Matrix().entries(), read, identity, siblings).run()

    join_fabric("ingress", join, where)
    serve("ingress", run, where, flags, ListenFailed)


@app.command()
@placed
def worker(
    where: Where,
    engine: EngineOption = None,
    node: NodeOption = None,
    join: JoinOption = None,
    log_level: LogOption = None,
    log_form: LogFormOption = None,
) -> None:
    """Serve the engines of this machine."""
    from deploy.nodes import kept, keys
    from workers.node import Worker

    flags: dict[str, Any] = {
        "worker": {"node": node},
        "log": {"level": log_level, "format": log_form},
    }
    if engine:
        with one_line(SettingsError):
            flags["engines"] = configure.parse_engines(engine)
    join_fabric("worker", join, where)
    read = partial(configure.resolve, "worker", where, flags)

    def run(found: Settings) -> Work:
        identity = keys.of(found.nats, None, kept.renaming(where.data, "worker"))
        return run_again(Worker(found, read, identity))

    serve("worker", run, where, flags)


@app.command()
@placed
def fallback(
    where: Where,
    node: NodeOption = None,
    join: JoinOption = None,
    log_level: LogOption = None,
    log_form: LogFormOption = None,
) -> None:
    """Take what no worker takes in time to paid providers, on prepaid credits."""
    from deploy.nodes import kept, keys
    from fallback.node import Fallback

    flags = {"worker": {"node": node}, "log": {"level": log_level, "format": log_form}}
    join_fabric("fallback", join, where)
    read = partial(configure.resolve, "fallback", where, flags)

    def run(found: Settings) -> Work:
        identity = keys.of(found.nats, found.ledger, kept.renaming(where.data, "fallback"))
        return run_again(Fallback(found, read, identity))

    serve("fallback", run, where, flags)


@app.command()
@asks
async def status(
    where: Where,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again each second.")] = False,
    as_json: JsonOption = False,
    pages: Annotated[
        bool,
        typer.Option("--prometheus-sd", help="Where the pages of metrics are, for Prometheus."),
    ] = False,
) -> None:
    """Who is here, and what waits."""
    from deploy import status as page

    if pages:
        await page.show_pages(where.admin())
    else:
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
    since: Annotated[
        str, typer.Option(help="7d, 12h ago, or from a day 2026-11-01 or month 2026-11 (UTC) on.")
    ] = "7d",
    until: Annotated[str, typer.Option(help="The same; a day or month is included.")] = "",
    by: Annotated[
        str, typer.Option(help="Of day, month, account, key, model, node, provider.")
    ] = "day,model",
    account: Annotated[str, typer.Option(help="Of this account alone.")] = "",
    key: Annotated[str, typer.Option(help="Of the key of this name alone.")] = "",
    as_csv: Annotated[bool, typer.Option("--csv", help="For spreadsheets.")] = False,
    as_json: JsonOption = False,
) -> None:
    """What workers and providers served, and what was spent at providers."""
    from deploy import usage as served
    from deploy.credits import accounts

    asked = served.question(by, since, until, account, key)
    await served.show(accounts(where), asked, as_csv=as_csv, as_json=as_json)


@app.command()
@asks
async def backup(where: Where, file: FileArgument) -> None:
    """Copy books (credits, usage), API keys and settings into a file, while everything runs."""
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
    """Put books, keys and settings back from a file that is whole."""
    from deploy import backup as copies

    with one_line(OSError):
        await copies.restore(where, file, overwrite)


@configuration.command()
def check(config: ConfigOption = None) -> None:
    """Say "ok", or every fault of file and environment (exit code 2)."""
    try:
        configure.checked(config)
    except SettingsError as fault:
        typer.echo(str(fault), err=True)
        sys.exit(2)
    typer.echo("ok")


@configuration.command()
def show(config: ConfigOption = None) -> None:
    """Print every setting as it is in force, as TOML; secrets are masked."""
    with one_line(SettingsError):
        typer.echo(configure.render(load(config)), nl=False)


def main() -> None:
    if hidden.has_secrets(sys.argv) and not hidden.cover():
        typer.echo(f"headrace: {_SHOWN}", err=True)
    app()
