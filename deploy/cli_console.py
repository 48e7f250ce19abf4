"""``headrace console``: pages for a browser."""

from __future__ import annotations

from typing import Any

import typer

from deploy.configure import Where
from deploy.options import HostOption, LogFormOption, LogOption, PortOption, asks, placed
from deploy.serving import Work, serve
from schemas.settings import Settings

console = typer.Typer(
    help="Pages for a browser: what runs, requests, a playground, keys, nodes.",
    invoke_without_command=True,
)


@console.callback()
@placed
def run(
    where: Where,
    context: typer.Context,
    host: HostOption = None,
    port: PortOption = None,
    log_level: LogOption = None,
    log_form: LogFormOption = None,
) -> None:
    if context.invoked_subcommand is not None:
        return
    from deploy.console import command
    from ingress.http.listeners import ListenFailed

    flags: dict[str, Any] = {
        "console": {"host": host, "port": port},
        "log": {"level": log_level, "format": log_form},
    }

    def work(settings: Settings) -> Work:
        return command.run(settings, where.data)

    serve("console", work, where, flags, ListenFailed)


@console.command()
@asks
async def link(where: Where) -> None:
    """Print a link that signs in once, within ten minutes: for who can read the data
    directory."""
    from deploy.console import command

    print(await command.link(where.data))
