"""``headrace key``: keys that others are given."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from inspect import Signature, signature
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec

import typer

from deploy.configure import CommandFailed, Where
from deploy.options import JsonOption, asks, one_line

P = ParamSpec("P")

keys = typer.Typer(help="API keys that others are given.", no_args_is_help=True)

WITHOUT = {"scopes": "the usual scopes", "models": "all", "nodes": "all"}
"""Options that are given several times, and what a new key has without them."""
NameArgument = Annotated[str, typer.Argument(help="The key's name, as in logs and usage.")]


def limits_of(
    requests: Annotated[str | None, typer.Option(help="In any 60 seconds; none: no limit.")] = None,
    tokens: Annotated[str | None, typer.Option(help="In any 60 seconds, prompts too.")] = None,
    concurrent: Annotated[str | None, typer.Option(help="Requests at once.")] = None,
    queued: Annotated[str | None, typer.Option(help="Requests that wait for one model.")] = None,
    max_tokens: Annotated[str | None, typer.Option(help="In one answer.")] = None,
    monthly_tokens: Annotated[str | None, typer.Option(help="In a month, UTC.")] = None,
    monthly_credits: Annotated[str | None, typer.Option(help="In a month, UTC.")] = None,
    weight: Annotated[str | None, typer.Option(help="Share of a queue, 0.01 to 100.")] = None,
) -> dict[str, Any]:
    """What was said of limits and weight; None for what is to be as without."""
    said = {name: value for name, value in locals().items() if value is not None}
    plain = {name: None if value == "none" else value for name, value in said.items()}
    own = {"weight": plain.pop("weight")} if "weight" in plain else {}
    return {**own, **({"limits": plain} if plain else {})}


def policy_of(
    account: Annotated[str | None, typer.Option(help="Who pays; default: default.")] = None,
    note: Annotated[str | None, typer.Option(help="Whom it is for.")] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(help="inference, inference:PATH, models:read, usage:read, admin; repeat it."),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="A name, or a pattern as 'llama*'; repeat it; edit with '': all."),
    ] = None,
    node: Annotated[
        list[str] | None,
        typer.Option(help="The only nodes, or a pattern; repeat it; edit with '': all."),
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help="30d, 2027-01-31T12:00:00Z, or never.")
    ] = None,
    local: Annotated[
        bool | None, typer.Option("--local/--no-local", help="No provider sees its requests.")
    ] = None,
    lane: Annotated[str | None, typer.Option(help="i, or b: after all others.")] = None,
    lenient: Annotated[
        bool | None, typer.Option("--lenient/--no-lenient", help="Fields without effect pass.")
    ] = None,
) -> dict[str, Any]:
    """What was said of all else."""
    said = {
        "account": account,
        "note": note,
        "scopes": scope or None,
        "models": model or None,
        "nodes": node or None,
        "expires": expires,
        "local": local,
        "lane": lane,
        "lenient": lenient,
    }
    return {name: value for name, value in said.items() if value is not None}


def shaped(
    *makers: Callable[..., dict[str, Any]],
) -> Callable[
    [Callable[Concatenate[Where, dict[str, Any], P], Coroutine[Any, Any, None]]],
    Callable[..., Coroutine[Any, Any, None]],
]:
    """A command with the options of `makers` in place of its second parameter."""
    found = [signature(maker, eval_str=True).parameters.values() for maker in makers]
    options = [each for parameters in found for each in parameters]

    def decorate(
        command: Callable[Concatenate[Where, dict[str, Any], P], Coroutine[Any, Any, None]],
    ) -> Callable[..., Coroutine[Any, Any, None]]:
        @wraps(command)
        async def run(where: Where, *args: Any, **own: Any) -> None:
            said: dict[str, Any] = {}
            for maker in makers:
                said |= maker(**{name: own.pop(name) for name in signature(maker).parameters})
            await command(where, said, *args, **own)

        where, _, *rest = signature(command, eval_str=True).parameters.values()
        run.__signature__ = Signature([where, *rest, *options])  # type: ignore[attr-defined]
        return run

    return decorate


@keys.command()
@asks
@shaped(policy_of, limits_of)
async def create(
    where: Where, policy: dict[str, Any], name: NameArgument, as_json: JsonOption = False
) -> None:
    """Make a key, and print its secret: this once, alone on stdout."""
    from deploy import keys as store

    for option, without in WITHOUT.items():
        if "" in policy.get(option, ()):  # as of a variable that is not set
            why = f"it is empty; leave it out for {without}"
            raise CommandFailed(f"--{option.removesuffix('s')}: {why}")
    await store.create(where, name, policy, as_json)


@keys.command()
@asks
@shaped(policy_of, limits_of)
async def edit(
    where: Where, policy: dict[str, Any], name: NameArgument, as_json: JsonOption = False
) -> None:
    """Change what a key may do; what is not named stays."""
    from deploy import keys as store

    for option in WITHOUT:
        if "" in (said := policy.get(option, ())):
            if len(said) > 1:
                why = "one of them is empty; an empty one stands alone"
                raise CommandFailed(f"--{option.removesuffix('s')}: {why}")
            policy[option] = []
    await store.edit(where, name, policy, as_json)


@keys.command("list")
@asks
async def list_keys(
    where: Where,
    gone: Annotated[bool, typer.Option("--all", help="Revoked ones, too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """All keys, those of the configuration too; never a secret."""
    from deploy import keys as store

    await store.show_all(where, gone, as_json)


@keys.command()
@asks
async def show(where: Where, name: NameArgument, as_json: JsonOption = False) -> None:
    """All that is known of one."""
    from deploy import keys as store

    await store.show(where, name, as_json)


@keys.command()
@asks
async def rotate(
    where: Where,
    name: NameArgument,
    grace: Annotated[str, typer.Option(help="How long the old secret is still good; 0.")] = "1d",
    as_json: JsonOption = False,
) -> None:
    """Give a key a new secret, and print it as 'create' does."""
    from deploy import keys as store

    await store.rotate(where, name, grace, as_json)


@keys.command()
@asks
async def revoke(where: Where, name: NameArgument, as_json: JsonOption = False) -> None:
    """Take a key back: from now on it is unknown."""
    from deploy import keys as store

    await store.revoke(where, name, as_json)


@keys.command("import")
@asks
async def import_keys(
    where: Where,
    file: Annotated[
        Path | None, typer.Argument(help="Rows of name,secret,account,note; default: stdin.")
    ] = None,
) -> None:
    """Take in keys that exist already, with their secrets."""
    from deploy import keys as store

    with one_line(OSError):
        await store.load(where, file)


@keys.command()
@asks
@shaped(limits_of)
async def account(
    where: Where,
    said: dict[str, Any],
    name: Annotated[str, typer.Argument(help="All without one.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Limits and weight of all keys of an account together: show or change them."""
    from deploy import keys as store

    await store.account(where, name, said, as_json)
