"""The command ``headrace``.

A command imports what it alone needs: the broker's client takes a quarter of a second.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deploy import configure, home
from deploy.configure import Unreachable, Where
from schemas import log
from schemas.settings import Log, Settings, SettingsError, load

if TYPE_CHECKING:
    from deploy.credits import Accounts

Work = Coroutine[Any, Any, object]

app = typer.Typer(
    name="headrace",
    help="One OpenAI-compatible address in front of all your GPUs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

configuration = typer.Typer(help="The settings.", no_args_is_help=True)
app.add_typer(configuration, name="config")

credits = typer.Typer(help="Prepaid credits of the cloud fallback.", no_args_is_help=True)
app.add_typer(credits, name="credits")

dead = typer.Typer(help="Requests whose last attempt failed.", no_args_is_help=True)
app.add_typer(dead, name="dead")

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
HostOption = Annotated[str | None, typer.Option(help="Address to listen on.")]
PortOption = Annotated[int | None, typer.Option(help="Port to listen on; 0 is any.")]
NodeOption = Annotated[str | None, typer.Option(help="Name of this machine.")]


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
    with _one_line(SettingsError, local.StartFailed, BusError):
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
def ingress(
    config: ConfigOption = None,
    nats: NatsOption = None,
    host: HostOption = None,
    port: PortOption = None,
    data: DataOption = None,
    log_level: LogOption = None,
) -> None:
    """Serve OpenAI's API."""
    from deploy.compat.endpoint import Matrix
    from ingress.server import Ingress, ListenFailed

    flags = {"ingress": {"host": host, "port": port}, "log": {"level": log_level}}
    where = _where(config, nats, data)

    def run(settings: Settings) -> Work:
        read = partial(configure.resolve, "ingress", where, flags)
        return Ingress(settings, Matrix().entries(), read).run()

    _serve("ingress", run, where, flags, ListenFailed)


@app.command()
def worker(
    config: ConfigOption = None,
    nats: NatsOption = None,
    engine: EngineOption = None,
    node: NodeOption = None,
    data: DataOption = None,
    log_level: LogOption = None,
) -> None:
    """Serve the engines of this machine."""
    from workers.node import Worker

    flags: dict[str, Any] = {"worker": {"node": node}, "log": {"level": log_level}}
    if engine:
        with _one_line(SettingsError):
            flags["engines"] = [configure.parse_engine(text) for text in engine]
    _serve("worker", lambda found: Worker(found).run(), _where(config, nats, data), flags)


@app.command()
def fallback(
    config: ConfigOption = None,
    nats: NatsOption = None,
    node: NodeOption = None,
    data: DataOption = None,
    log_level: LogOption = None,
) -> None:
    """Take what no worker takes in time to paid providers, on prepaid credits."""
    from fallback.node import Fallback

    flags = {"worker": {"node": node}, "log": {"level": log_level}}
    _serve("fallback", lambda found: Fallback(found).run(), _where(config, nats, data), flags)


@app.command()
def status(
    config: ConfigOption = None,
    nats: NatsOption = None,
    data: DataOption = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again each second.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Who is here, and what waits."""
    from deploy import status as page

    where = _where(config, nats, data)
    _ask("status", lambda: page.show(where.admin(), watch=watch, as_json=as_json))


@app.command()
def doctor(config: ConfigOption = None, nats: NatsOption = None, data: DataOption = None) -> None:
    """What is wrong, and how to mend it. Exit code 1 if anything is."""
    from deploy import doctor as practice

    log.configure(QUIET, "doctor")
    sys.exit(asyncio.run(practice.visit(_where(config, nats, data))))


@app.command()
def compat(
    model: Annotated[str | None, typer.Option(help="Probe this model alone.")] = None,
    as_json: JsonOption = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="For a page.")] = False,
    url: UrlOption = None,
    key: KeyOption = None,
    config: ConfigOption = None,
    nats: NatsOption = None,
    data: DataOption = None,
) -> None:
    """What each model really does of OpenAI's API: probed now, with small real requests."""
    from deploy.compat import command as matrix
    from deploy.edge import NoEdge

    shape: matrix.Shape = "json" if as_json else "markdown" if markdown else "table"
    where = _where(config, nats, data)
    known = matrix.CompatFailed, NoEdge
    _ask("compat", lambda: matrix.show(where, url, key, model, shape), *known)


@dead.command("list")
def list_dead(
    model: Annotated[str, typer.Option(help="Of this model alone.")] = "",
    as_json: JsonOption = False,
    config: ConfigOption = None,
    nats: NatsOption = None,
    data: DataOption = None,
) -> None:
    """Each with its place, by which the other commands name it."""
    from deploy import dead as letters

    where = _where(config, nats, data)
    _ask("dead", lambda: letters.show_all(where, model, as_json))


@dead.command("show")
def show_dead(
    place: PlaceArgument,
    body: Annotated[bool, typer.Option("--body", help="Also what was asked.")] = False,
    config: ConfigOption = None,
    nats: NatsOption = None,
    data: DataOption = None,
) -> None:
    """All that is known of one."""
    from deploy import dead as letters

    where = _where(config, nats, data)
    _ask("dead", lambda: letters.show(where, place, body), letters.DeadFailed)


@dead.command("retry")
def retry_dead(
    places: PlacesArgument,
    url: UrlOption = None,
    key: KeyOption = None,
    config: ConfigOption = None,
    nats: NatsOption = None,
    data: DataOption = None,
) -> None:
    """Send them again, as new requests of this key, and print the answers."""
    from deploy import dead as letters
    from deploy.edge import NoEdge

    where = _where(config, nats, data)
    known = letters.DeadFailed, NoEdge
    _ask("dead", lambda: letters.retry(where, places, url, key), *known)


@dead.command("drop")
def drop_dead(
    places: PlacesArgument,
    config: ConfigOption = None,
    nats: NatsOption = None,
    data: DataOption = None,
) -> None:
    """Forget them."""
    from deploy import dead as letters

    where = _where(config, nats, data)
    _ask("dead", lambda: letters.drop(where, places), letters.DeadFailed)


@credits.command(context_settings={"ignore_unknown_options": True})
def grant(
    account: str,
    amount: Annotated[str, typer.Argument(help="As 12.50; less than 0 takes credits back.")],
    note: Annotated[str, typer.Option(help="What for; kept in the journal.")] = "",
    config: ConfigOption = None,
    nats: NatsOption = None,
    data: DataOption = None,
) -> None:
    """Add credits to an account."""
    from deploy import credits as journal

    _credits(
        config, nats, data, lambda accounts: accounts.grant(account, journal.micro(amount), note)
    )


@credits.command()
def accept(config: ConfigOption = None, nats: NatsOption = None, data: DataOption = None) -> None:
    """Go on with a journal that lost its end to a damaged file or a power cut."""
    _credits(config, nats, data, lambda accounts: accounts.accept())


@credits.command("show")
def show_credits(
    account: Annotated[str, typer.Argument(help="All without one.")] = "",
    as_json: JsonOption = False,
    config: ConfigOption = None,
    nats: NatsOption = None,
    data: DataOption = None,
) -> None:
    """What accounts have, and what is reserved of it."""
    _credits(config, nats, data, lambda accounts: accounts.show(account, as_json))


@credits.command()
def history(
    account: Annotated[str, typer.Argument(help="All without one.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="The newest so many entries.")] = 50,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    nats: NatsOption = None,
    data: DataOption = None,
) -> None:
    """Every change of an account."""
    _credits(config, nats, data, lambda accounts: accounts.history(account, limit, as_json))


@app.command()
def usage(
    since: Annotated[str, typer.Option(help="7d, 12h, or a day as 2026-11-01.")] = "7d",
    by: Annotated[str, typer.Option(help="Of day, key, model, provider, account.")] = "day,model",
    as_json: JsonOption = False,
    config: ConfigOption = None,
    nats: NatsOption = None,
    data: DataOption = None,
) -> None:
    """What workers and providers served, and what was spent at providers."""
    from deploy import credits as journal

    _credits(
        config,
        nats,
        data,
        lambda accounts: accounts.usage(journal.since(since), journal.groups(by), as_json),
    )


FileArgument = Annotated[Path, typer.Argument(help="One file for all of it.")]


@app.command()
def backup(
    file: FileArgument,
    config: ConfigOption = None,
    nats: NatsOption = None,
    data: DataOption = None,
) -> None:
    """Copy the books, credits and usage, into a file, while everything runs."""
    from deploy import backup as copies

    where = _where(config, nats, data)
    _ask("backup", lambda: copies.backup(where, file), OSError)


@app.command()
def restore(
    file: FileArgument,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Lose what is there.")] = False,
    config: ConfigOption = None,
    nats: NatsOption = None,
    data: DataOption = None,
) -> None:
    """Put the books back from a file that is whole."""
    from deploy import backup as copies

    where = _where(config, nats, data)
    _ask("restore", lambda: copies.restore(where, file, overwrite), copies.Refused, OSError)


def _credits(
    config: Path | None, nats: str | None, data: Path | None, work: Callable[[Accounts], Work]
) -> None:
    from deploy import credits as journal
    from fallback.credits.faults import LedgerError

    where = _where(config, nats, data)
    _ask("credits", lambda: work(journal.accounts(where)), journal.Wrong, LedgerError)


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
    with _one_line(SettingsError):
        typer.echo(configure.render(load(config)), nl=False)


def _where(config: Path | None, nats: str | None, data: Path | None) -> Where:
    return Where(home.data_dir(data), config, nats)


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

    with _one_line(SettingsError, BusError, *known):
        settings = configure.resolve(role, where, flags)
        log.configure(settings.log, role)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(settings))


def _ask(name: str, work: Callable[[], Work], *known: type[Exception]) -> None:
    """A command that looks at what runs, and prints it."""
    from schemas.bus import BusError

    log.configure(QUIET, name)
    with _one_line(Unreachable, SettingsError, BusError, *known):
        asyncio.run(work())


@contextlib.contextmanager
def _one_line(*known: type[Exception]) -> Iterator[None]:
    """End with the message of a fault that the user can mend, and without a traceback."""
    try:
        yield
    except known as fault:
        sys.exit(f"headrace: {fault}")
    except KeyboardInterrupt:
        sys.exit(0)


def main() -> None:
    app()
