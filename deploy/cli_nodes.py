"""``headrace node``: machines that join this one's fabric. ``headrace model``: what they serve."""

from __future__ import annotations

from typing import Annotated

import typer

from deploy.configure import Where
from deploy.options import JsonOption, asks

nodes = typer.Typer(help="Machines that join this one's fabric.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="As 'headrace node list' shows it.")]


@nodes.command()
@asks
async def invite(
    where: Where,
    name: Annotated[str, typer.Argument(help="How the new node will be called.")],
    models: Annotated[
        str, typer.Option(help="Names or patterns of what it may serve: 'llama*,qwen3'; all.")
    ] = "",
    role: Annotated[str, typer.Option(help="worker, ingress or fallback.")] = "worker",
    expires: Annotated[str, typer.Option(help="How long the token is good: 30m, 1h, 2d.")] = "1h",
    as_json: JsonOption = False,
) -> None:
    """Print the one line with which a machine joins: good once, and a secret until then."""
    from deploy.nodes import commands

    globs = [each.strip() for each in models.split(",")] if models else []
    await commands.invite(where, name, globs, role, expires, as_json)


@nodes.command("list")
@asks
async def list_nodes(where: Where, as_json: JsonOption = False) -> None:
    """All nodes: those that are here, are away, were drained or evicted, and who is invited."""
    from deploy.nodes import commands

    await commands.show_all(where, as_json)


@nodes.command()
@asks
async def show(where: Where, name: NameArgument, as_json: JsonOption = False) -> None:
    """All that is known of one."""
    from deploy.nodes import commands

    await commands.show(where, name, as_json)


@nodes.command()
@asks
async def drain(where: Where, name: NameArgument) -> None:
    """Have a node finish what it has, and get no more jobs; it stays connected."""
    from deploy.nodes import commands

    await commands.drain(where, name, drained=True)


@nodes.command()
@asks
async def undrain(where: Where, name: NameArgument) -> None:
    """Have it get jobs again."""
    from deploy.nodes import commands

    await commands.drain(where, name, drained=False)


@nodes.command()
@asks
async def evict(where: Where, name: NameArgument) -> None:
    """Cut a node off at once, for good: its keys are dead, and others get its jobs."""
    from deploy.nodes import commands

    await commands.evict(where, name)


@nodes.command()
@asks
async def forget(where: Where, name: NameArgument) -> None:
    """Drop what is kept of a node that is away or was evicted, or withdraw an invitation."""
    from deploy.nodes import commands

    await commands.forget(where, name)


@nodes.command()
@asks
async def rotate(where: Where, name: NameArgument) -> None:
    """Have a node make new keys, while it goes on working."""
    from deploy.nodes import commands

    await commands.rotate(where, name)


@nodes.command()
@asks
async def rename(
    where: Where,
    name: NameArgument,
    to: Annotated[str, typer.Argument(help="How it will be called.")],
) -> None:
    """Give a node another name; its keys stay."""
    from deploy.nodes import commands

    await commands.rename(where, name, to)


models = typer.Typer(help="Models that are known.", no_args_is_help=True)


@models.command("list")
@asks
async def list_models(where: Where, as_json: JsonOption = False) -> None:
    """All models that are known, those that nobody serves now, too."""
    from deploy import models as known

    await known.show_all(where, as_json)


@models.command("forget")
@asks
async def forget_model(
    where: Where,
    name: Annotated[str, typer.Argument(help="As 'headrace model list' shows it.")],
) -> None:
    """Forget a model that nobody serves; ingresses follow within seconds."""
    from deploy import models as known

    await known.forget(where, name)
