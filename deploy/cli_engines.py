"""``headrace engine``: engines of this machine, found and written into the settings."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from deploy.configure import Where
from deploy.options import JsonOption, asks

engines = typer.Typer(help="Engines of this machine.", no_args_is_help=True)

TargetArgument = Annotated[
    str,
    typer.Argument(
        metavar="[URL|FILE|NAME]",
        help="An engine that runs, a model's file, or 'ollama'; without: all that is found.",
        show_default=False,
    ),
]
MoreArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[-- FLAGS]", help="More flags for the program that is started."),
]


@engines.command("list")
@asks
async def list_engines(where: Where, as_json: JsonOption = False) -> None:
    """Engines of the settings and how they stand, and what else runs on this machine."""
    from deploy.engines import listing

    await listing.show_all(where, as_json)


@engines.command()
@asks
async def add(
    where: Where,
    target: TargetArgument = "",
    more: MoreArgument = None,
    name: Annotated[str, typer.Option(help="What the engine is called.")] = "",
    kind: Annotated[str, typer.Option(help="What it is, where it does not say so.")] = "",
    models: Annotated[
        list[str] | None, typer.Option(help="Names under which it is served, with commas.")
    ] = None,
    slots: Annotated[int, typer.Option(min=0, max=1024, help="Jobs at a time.")] = 0,
    context: Annotated[
        int, typer.Option(min=0, max=2**24, help="Tokens of all slots together.")
    ] = 0,
    gpu_layers: Annotated[
        int | None, typer.Option(min=0, help="Layers on the GPU; default: all that fit.")
    ] = None,
    program: Annotated[str, typer.Option(help="The server's program, if not in PATH.")] = "",
    mmproj: Annotated[
        str, typer.Option(help="The model's eyes or ears, if not beside it; 'none': without.")
    ] = "",
    key: Annotated[str, typer.Option(help="The engine's own key: @FILE, or - for stdin.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")] = False,
) -> int:
    """Write an engine into the file of settings; workers that run with it take it at once."""
    from deploy.engines.adding import Adding, Ask, words
    from deploy.engines.faults import BadInput
    from deploy.engines.starting import Wish

    wish = Wish(
        name=name,
        models=words(models or ()),
        slots=slots,
        context=context,
        layers=gpu_layers,
        program=program,
        projector=mmproj,
        more=tuple(more or ()),
    )
    try:
        await Adding(where, Ask(target, wish, kind, key, yes)).run()
    except BadInput as fault:
        print(f"headrace: {fault}", file=sys.stderr)
        return 2
    return 0
