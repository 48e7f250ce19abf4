"""The table of an engine that the worker starts for a model's file. Pure, but for what lies beside
the file and in PATH.

Only flags that the servers have had for years are written: one that does not know a flag ends.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.engines import beside, fit, machine
from deploy.engines.faults import BadInput
from deploy.engines.fit import EVERY_LAYER, Fit
from deploy.engines.machine import SERVERS, Machine
from deploy.engines.model_file import ModelFile

_LISTEN = ("--host", "127.0.0.1", "--port", "{port}")
_WHISPER = "whisper-1"
"""The name that OpenAI's clients ask for."""
_GET = {
    "llamacpp": (
        "install llama.cpp (its llama-server), or the built-in one with scripts/install of the "
        "repository"
    ),
    "whisper": "build whisper.cpp, whose server it is",
    "sdcpp": "build stable-diffusion.cpp with -DSD_BUILD_EXAMPLES=ON, whose server it is",
}
NO_EYES = "none"
_OWN_SERVER = "workers.engines.llamacpp.server"


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user said; 0, "" and None where nothing was said. `context`: tokens of all slots.
    `projector`: a file, or `NO_EYES`. `more`: words for the program."""

    name: str = ""
    models: tuple[str, ...] = ()
    slots: int = 0
    context: int = 0
    layers: int | None = None
    program: str = ""
    projector: str = ""
    more: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Made:
    """`table`: one of [[engines]]; `notes`: what the user should know of it, a line each."""

    table: dict[str, Any]
    notes: tuple[str, ...] = field(default=())


def table(file: ModelFile, here: Machine, wish: Wish, served: Sequence[str] = ()) -> Made:
    """`served`: names of models that other engines of the file have. Raises BadInput."""
    _check(file, wish)
    if file.kind == "whisper":
        return _whisper(file, here, wish, served)
    if file.kind == "sdcpp":
        return _painter(file, here, wish)
    return _llama(file, here, wish)


def _check(file: ModelFile, wish: Wish) -> None:
    """Raises BadInput for what does nothing for such a file, or cannot be written."""
    said = {"--slots": wish.slots, "--context": wish.context, "--mmproj": wish.projector}
    said["--gpu-layers"] = wish.layers is not None
    if file.kind != "llamacpp" and (useless := [flag for flag, value in said.items() if value]):
        raise BadInput(f"{useless[0]} is only for models of text; {file.path.name} is none")
    try:
        str(file.path).encode()
    except UnicodeEncodeError:
        raise BadInput("the file's name is not UTF-8: rename it") from None


def _program(file: ModelFile, here: Machine, wish: Wish) -> str:
    """Its path, or "" for the built-in one. Raises BadInput."""
    server = SERVERS[file.kind]
    if wish.program:
        if not (found := machine.program(wish.program)):
            raise BadInput(f"--program {wish.program}: there is no such program")
        return found
    if server in here.programs:
        return here.programs[server]
    if file.kind == "llamacpp" and here.built_in:
        return ""
    raise BadInput(
        f"{file.path.name} is served by {server}, which is not in PATH: {_GET[file.kind]}; or say "
        "where it is with --program"
    )


# Text


def _llama(file: ModelFile, here: Machine, wish: Wish) -> Made:
    program = _program(file, here, wish)
    if not program and wish.layers is not None:
        raise BadInput("--gpu-layers is for llama-server, which is not in PATH")
    # The built-in one has no GPU but Apple's, and finds by itself what to put there.
    own = here if program else Machine(here.memory)
    found = fit.fit(file.head, file.size, own, wish.slots, wish.context)
    eyes = _eyes(file, wish)
    names = list(wish.models) or [file.name]
    notes = [_said(found, file), *_warned(found, file, here, program, eyes)]
    base: dict[str, Any] = {"name": wish.name or file.name}
    if not program and file.does == "chat" and eyes is None and not wish.more:
        fitted = {"context": max(256, found.context), "slots": found.slots}
        base |= {"kind": "embedded", "file": str(file.path), "models": names, **fitted}
        return Made(base, tuple(notes))
    command = _own(file, found, eyes, names) if not program else []
    command = command or [program, *_flags(file, found, eyes, names, wish)]
    base |= {"kind": "llamacpp", "command": [*command, *wish.more], "file": str(file.path)}
    return Made({**base, "models": names}, tuple(notes))


def _flags(
    file: ModelFile, found: Fit, eyes: Path | None, names: Sequence[str], wish: Wish
) -> list[str]:
    """Those of llama-server."""
    layers = found.layers if wish.layers is None else wish.layers
    flags = ["-m", "{file}", "--alias", names[0], *_LISTEN]
    flags += ["-np", str(found.slots), "-c", str(found.context)]
    flags += [] if layers is None else ["-ngl", str(layers)]
    flags += ["--mmproj", str(eyes)] if eyes else []
    if file.does == "chat":
        return [*flags, "--jinja"]
    # One batch computes a whole input, so it must hold a slot's context.
    batch = str(max(512, found.context // found.slots))
    mode = "--reranking" if file.does == "rerank" else "--embedding"
    return [*flags, mode, "-b", batch, "-ub", batch]


def _own(file: ModelFile, found: Fit, eyes: Path | None, names: Sequence[str]) -> list[str]:
    """The command of the built-in server, for what its kind `embedded` has no settings for."""
    command = [sys.executable, "-P", "-m", _OWN_SERVER, "--model", "{file}", "--port", "{port}"]
    command += ["--alias", names[0]]
    command += ["--slots", str(found.slots), "--context", str(found.context)]
    command += ["--mmproj", str(eyes)] if eyes else []
    flag = {"embeddings": ["--embedding"], "rerank": ["--rerank"]}
    return [*command, *flag.get(file.does, [])]


def _eyes(file: ModelFile, wish: Wish) -> Path | None:
    """Raises BadInput for a file that is no projector for this model."""
    if not wish.projector:
        return beside.projector(file.path, file.head) if file.does == "chat" else None
    if wish.projector == NO_EYES:
        return None
    given = Path(wish.projector).expanduser().absolute()
    if not beside.fits(given, file.head):
        raise BadInput(f"{given} is no mmproj for {file.path.name}")
    return given


def _said(found: Fit, file: ModelFile) -> str:
    slots = f"{found.slots} slot{'s' * (found.slots > 1)}"
    text = f"{file.does}: {slots} of {found.context // found.slots} tokens"
    if found.layers is None:
        return text
    count = file.head.own("block_count")
    if found.layers == EVERY_LAYER:
        return f"{text}, all layers on the GPU"
    return f"{text}, {found.layers} of {count} layers on the GPU, as no more fit into its memory"


def _warned(
    found: Fit, file: ModelFile, here: Machine, program: str, eyes: Path | None
) -> list[str]:
    notes = [f"it sees or hears with {eyes.name}"] if eyes else []
    if not program:
        gpu = here.has_gpu and here.gpu != "metal"
        unused = "; it does not use the GPU: for that, put llama-server into PATH" if gpu else ""
        notes.append(f"llama-server is not in PATH, so the built-in server is taken{unused}")
    if found.tight:
        free = here.memory + (here.gpu_memory if program else 0)
        notes.append(f"it may not fit: its file has {_gib(file.size)}, and {_gib(free)} are free")
    return notes


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


# Sounds and pictures


def _whisper(file: ModelFile, here: Machine, wish: Wish, served: Sequence[str]) -> Made:
    program = _program(file, here, wish)
    # Two engines of one name share its requests, so another model must not have it, too.
    both = [file.name] if _WHISPER in served else [_WHISPER, file.name]
    names = list(wish.models) or both
    command = [program, "-m", "{file}", *_LISTEN, *wish.more]
    base = {"name": wish.name or file.name, "kind": "whisper", "command": command}
    notes = f"transcriptions, one at a time, as {' and '.join(names)}"
    return Made({**base, "file": str(file.path), "models": names}, (notes,))


def _painter(file: ModelFile, here: Machine, wish: Wish) -> Made:
    program = _program(file, here, wish)
    parts, lacking = beside.encoders(file.path, file.family, wish.more)
    names = list(wish.models) or [file.name]
    model = "--diffusion-model" if file.family else "-m"
    command = [program, model, "{file}"]
    for flag, each in parts.items():
        command += [f"--{flag}", str(each)]
    command += ["--listen-ip", "127.0.0.1", "--listen-port", "{port}", *wish.more]
    notes = ["pictures, one at a time"]
    if parts:
        notes.append(f"with {', '.join(each.name for each in parts.values())} beside it")
    if lacking:
        notes.append(f"it follows prompts better with {' and '.join(lacking)} beside it")
    base = {"name": wish.name or file.name, "kind": "sdcpp", "command": command}
    return Made({**base, "file": str(file.path), "models": names}, tuple(notes))
