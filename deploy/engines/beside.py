"""What belongs to a model and lies beside its file: eyes and ears, encoders, autoencoders."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path

from deploy.engines import gguf
from deploy.engines.faults import BadInput
from deploy.engines.gguf import Head

_MOST = 2000
"""Files of a folder that are looked at."""
_KINDS = (".safetensors", ".gguf", ".sft")
_NAMES = {
    "vae": re.compile(r"(^|[^a-z])(ae|vae)([^a-z]|$)"),
    "tae": re.compile(r"tae(f|sd|$|[^a-z])"),
    "clip_l": re.compile(r"clip[-_]?l([^a-z]|$)"),
    "clip_g": re.compile(r"clip[-_]?g([^a-z]|$)"),
    "t5xxl": re.compile(r"t5.?(v1.1.)?(encoder.)?xxl"),
    "llm": re.compile(r"^(?!.*(vae|image)).*(qwen|mistral)"),
}
"""Flags of sd-server, and how the files for them are called."""
_NEEDS = {
    "sd1": (("clip_l",), ("vae", "tae")),
    "sdxl": (("clip_l",), ("clip_g",), ("vae", "tae")),
    "sd3": (("clip_l", "t5xxl"), ("vae", "tae")),
    "flux": (("clip_l", "t5xxl"), ("vae", "tae")),
    "flux2": (("llm",), ("vae", "tae")),
    "chroma": (("t5xxl",), ("vae", "tae")),
    "qwen_image": (("llm",), ("vae", "tae")),
    "z_image": (("llm",), ("vae", "tae")),
}
"""What a family needs beside its file: one of each group. Without an encoder sd-server ends at the
first request (measured)."""
_WANTS = {"flux": ("t5xxl",), "sd3": ("clip_g", "t5xxl")}
"""Without these it draws, but follows the prompt badly."""


def projector(model: Path, head: Head) -> Path | None:
    """The mmproj in the model's folder that fits it: it has the width of the model's tokens. Of
    several it is the one whose name is most like the model's."""
    found = [
        each
        for each in _files(model)
        if each.suffix == ".gguf" and "mmproj" in each.name.lower() and fits(each, head)
    ]
    return max(found, key=lambda each: _likeness(each, model), default=None)


def fits(file: Path, head: Head) -> bool:
    """Whether it is a projector for the model of this head."""
    try:
        own = gguf.read(file)
    except (gguf.Unreadable, OSError):
        return False
    if own.architecture != "clip" and own.text("general.type") != "mmproj":
        return False
    widths = {own.number(f"clip.{sense}.projection_dim") for sense in ("vision", "audio")} - {0}
    return not widths or head.own("embedding_length") in widths


def _likeness(file: Path, model: Path) -> float:
    name = re.sub(r"mmproj[-_.]?(model)?[-_.]?", "", file.stem.lower())
    return difflib.SequenceMatcher(None, name, model.stem.lower()).ratio()


def encoders(model: Path, family: str, said: Sequence[str]) -> tuple[dict[str, Path], list[str]]:
    """By flag, what sd-server needs beside the file of a model of this family; and what it would
    draw better with. `said`: words of the command line, whose flags count as given. Raises
    BadInput for what is missing."""
    given = {word.lstrip("-").partition("=")[0].replace("taesd", "tae") for word in said}
    files = [each for each in _files(model) if each.suffix in _KINDS]
    found = {
        flag: each
        for flag, pattern in _NAMES.items()
        if flag not in given and (each := _first(files, pattern)) is not None
    }
    needs = _NEEDS.get(family, ())
    missing = [group for group in needs if not {*found, *given} & set(group)]
    if missing:
        flags = " and ".join(" or ".join(f"--{flag}" for flag in group) for group in missing)
        raise BadInput(
            f"{model} is the part of a model that draws ({family}). It needs {flags} beside it: "
            "put these files into its folder, or name them behind two dashes, as in "
            f"'headrace engine add {model.name} -- --{missing[0][0]} FILE'"
        )
    wanted = {*(flag for group in needs for flag in group), *_WANTS.get(family, ())}
    if "vae" in found or "vae" in given:
        wanted -= {"tae"}
    lacking = [flag for flag in _WANTS.get(family, ()) if flag not in {*found, *given}]
    return {flag: each for flag, each in found.items() if flag in wanted}, lacking


def _first(files: Sequence[Path], pattern: re.Pattern[str]) -> Path | None:
    return next((each for each in files if pattern.search(each.stem.lower())), None)


def _files(model: Path) -> list[Path]:
    """Of the model's folder, without itself, by name."""
    found: list[Path] = []
    try:
        for each in model.parent.iterdir():
            if len(found) < _MOST and each.is_file() and not each.samefile(model):
                found.append(each)
    except OSError:
        return []
    return sorted(found)
