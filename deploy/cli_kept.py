"""``headrace credits`` and ``headrace dead``: what the broker keeps of money and of failures."""

from __future__ import annotations

from typing import Annotated

import typer

from deploy.configure import CommandFailed, Where
from deploy.options import JsonOption, KeyOption, PlaceArgument, PlacesArgument, UrlOption, asks

credits = typer.Typer(help="Prepaid credits of the cloud fallback.", no_args_is_help=True)
dead = typer.Typer(help="Requests whose last attempt failed.", no_args_is_help=True)


@dead.command("list")
@asks
async def list_dead(
    where: Where,
    model: Annotated[str, typer.Option(help="Of this model alone.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Each with its place, by which the other commands name it."""
    from deploy import dead as letters

    await letters.show_all(where, model, as_json)


@dead.command("show")
@asks
async def show_dead(
    where: Where,
    place: PlaceArgument,
    body: Annotated[bool, typer.Option("--body", help="Also what was asked.")] = False,
) -> None:
    """All that is known of one."""
    from deploy import dead as letters

    await letters.show(where, place, body)


@dead.command("retry")
@asks
async def retry_dead(
    where: Where, places: PlacesArgument, url: UrlOption = None, key: KeyOption = None
) -> None:
    """Send them again, as new requests of this key, and print the answers."""
    from deploy import dead as letters

    await letters.retry(where, places, url, key)


@dead.command("drop")
@asks
async def drop_dead(where: Where, places: PlacesArgument) -> None:
    """Forget them."""
    from deploy import dead as letters

    await letters.drop(where, places)


@credits.command(context_settings={"ignore_unknown_options": True})
@asks
async def grant(
    where: Where,
    account: str,
    amount: Annotated[str, typer.Argument(help="As 12.50; less than 0 takes credits back.")],
    note: Annotated[str, typer.Option(help="What for; kept in the journal.")] = "",
    create: Annotated[
        bool, typer.Option("--create", help="Also to an account that no key has.")
    ] = False,
) -> None:
    """Add credits to an account."""
    from deploy import accounts
    from deploy import credits as journal

    if not account:
        raise CommandFailed("an account has a name, and this one is empty")
    granted = journal.micro(amount)
    if granted > 0 and not create:
        await accounts.check(where, account)
    await journal.accounts(where).grant(account, granted, note)


@credits.command()
@asks
async def accept(where: Where) -> None:
    """Go on with a journal that lost its end to a damaged file or a power cut."""
    from deploy import credits as journal

    await journal.accounts(where).accept()


@credits.command("show")
@asks
async def show_accounts(
    where: Where,
    account: Annotated[str, typer.Argument(help="All without one.")] = "",
    as_json: JsonOption = False,
) -> None:
    """What accounts have, and what is reserved of it."""
    from deploy import credits as journal

    await journal.accounts(where).show(account, as_json)


@credits.command()
@asks
async def history(
    where: Where,
    account: Annotated[str, typer.Argument(help="All without one.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="The newest so many entries.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Every change of an account."""
    from deploy import credits as journal

    await journal.accounts(where).history(account, limit, as_json)
