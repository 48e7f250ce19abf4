"""``headrace credits`` and ``headrace dead``: what the broker keeps of money and of failures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deploy.options import (
    ConfigOption,
    DataOption,
    JsonOption,
    KeyOption,
    NatsOption,
    PlaceArgument,
    PlacesArgument,
    UrlOption,
    Work,
    ask,
    where_of,
)

if TYPE_CHECKING:
    from deploy.credits import Accounts

credits = typer.Typer(help="Prepaid credits of the cloud fallback.", no_args_is_help=True)
dead = typer.Typer(help="Requests whose last attempt failed.", no_args_is_help=True)


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

    where = where_of(config, nats, data)
    ask("dead", lambda: letters.show_all(where, model, as_json))


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

    where = where_of(config, nats, data)
    ask("dead", lambda: letters.show(where, place, body), letters.DeadFailed)


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

    where = where_of(config, nats, data)
    known = letters.DeadFailed, NoEdge
    ask("dead", lambda: letters.retry(where, places, url, key), *known)


@dead.command("drop")
def drop_dead(
    places: PlacesArgument,
    config: ConfigOption = None,
    nats: NatsOption = None,
    data: DataOption = None,
) -> None:
    """Forget them."""
    from deploy import dead as letters

    where = where_of(config, nats, data)
    ask("dead", lambda: letters.drop(where, places), letters.DeadFailed)


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

    of_accounts(
        config, nats, data, lambda accounts: accounts.grant(account, journal.micro(amount), note)
    )


@credits.command()
def accept(config: ConfigOption = None, nats: NatsOption = None, data: DataOption = None) -> None:
    """Go on with a journal that lost its end to a damaged file or a power cut."""
    of_accounts(config, nats, data, lambda accounts: accounts.accept())


@credits.command("show")
def showof_accounts(
    account: Annotated[str, typer.Argument(help="All without one.")] = "",
    as_json: JsonOption = False,
    config: ConfigOption = None,
    nats: NatsOption = None,
    data: DataOption = None,
) -> None:
    """What accounts have, and what is reserved of it."""
    of_accounts(config, nats, data, lambda accounts: accounts.show(account, as_json))


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
    of_accounts(config, nats, data, lambda accounts: accounts.history(account, limit, as_json))


def of_accounts(
    config: Path | None, nats: str | None, data: Path | None, work: Callable[[Accounts], Work]
) -> None:
    from deploy import credits as journal
    from fallback.credits.faults import LedgerError

    where = where_of(config, nats, data)
    ask("credits", lambda: work(journal.accounts(where)), journal.Wrong, LedgerError)
