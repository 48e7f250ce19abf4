"""``headrace nats``: a NATS that others run, and servers that are leaves of ours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from deploy.configure import Where
from deploy.options import asks

nats = typer.Typer(help="A NATS of your own.", no_args_is_help=True)


@nats.command()
@asks
async def setup(
    where: Where,
    url: Annotated[
        str | None, typer.Option(help="The login admin there, as nats://admin@host:4222.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what differs.")] = False,
) -> int:
    """Check a NATS that others run, and make the streams there. Exit code 1 if anything lacks."""
    from deploy.nats import setup as work

    return await work.show(replace(where, nats=url or where.nats), dry_run=dry_run)


@nats.command()
def accounts(
    nsc: Annotated[
        bool, typer.Option("--nsc", help="As commands of nsc, for NATS' operator mode.")
    ] = False,
    system: Annotated[str, typer.Option(help="Name of the system account that is there.")] = "",
    passwords: Annotated[
        bool, typer.Option("--passwords", help="New passwords for all of them instead.")
    ] = False,
) -> None:
    """Print accounts, logins and permissions for it, as a part of its configuration."""
    from deploy.nats import foreign

    if passwords:
        typer.echo(foreign.passwords(), nl=False)
    else:
        typer.echo(foreign.commands(system) if nsc else foreign.config(system), nl=False)


@nats.command()
@asks
async def leaf(
    where: Where,
    folder: Annotated[Path, typer.Argument(help="Where its files are written, to be taken there.")],
    port: Annotated[int, typer.Option(help="Where it listens there, on loopback.")] = 4222,
) -> None:
    """Write what a nats-server elsewhere needs to be a leaf of the broker that runs here."""
    from deploy.nats import leaf as leaves

    for path in leaves.write(where, folder, port):
        typer.echo(path)
