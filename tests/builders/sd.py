"""stable-diffusion.cpp's server, and weights of noise with which it can be tested.

The server: `stable-diffusion-cpp-python` 0.4.7 carries the whole source of stable-diffusion.cpp,
examples/server included (MIT licence). Weights that draw something are in no public package of a
reasonable size: those of `tests.builders.flux` and `tests.builders.clip` are random.
"""

from __future__ import annotations

import shutil
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.builders import clip, cmake, flux, store
from tests.builders.packages import Package, fetch
from tests.builders.process import run
from tests.builders.store import Say

SOURCE = Package(
    "stable-diffusion-cpp-python",
    "0.4.7",
    "998d1957260dd5ae4e18a8acc0c14b0a8757aaa9f96515197b6d5bbf46df9282",
    source=True,
)
# The last number counts changes of the recipe.
SERVER_ENTRY = f"sd-server-{SOURCE.version}-1"
WEIGHTS_ENTRY = "sd-random-flux-1"
OPTIONS = (
    "-DSD_BUILD_EXAMPLES=ON",
    # Its web pages: pnpm would fetch and build them, and nobody looks at them.
    "-DSD_SERVER_BUILD_FRONTEND=OFF",
    # The cache may move to another machine: no instructions that only this one has.
    "-DGGML_NATIVE=OFF",
)


@dataclass(frozen=True, slots=True)
class Sd:
    """`server`: the program; the others are its options of the same names."""

    server: Path
    diffusion_model: Path
    tae: Path
    clip_l: Path


def find() -> Sd | None:
    """What `build` has made before, or None."""
    server, weights = store.find(SERVER_ENTRY), store.find(WEIGHTS_ENTRY)
    return _paths(server, weights) if server and weights else None


def build(say: Say) -> Sd:
    """Builds what is not there yet: about seven minutes, then none. Raises BuildError."""
    began = time.monotonic()
    known = find()
    # The weights first: they take seconds, and tell at once if a library is missing.
    weights = store.obtain(WEIGHTS_ENTRY, lambda _, to: _make_weights(to, say), say)
    server = store.obtain(SERVER_ENTRY, lambda at, to: _make_server(at, to, say), say)
    if known is None:
        say(f"sd: done in {time.monotonic() - began:.0f} s")
    return _paths(server, weights)


def _paths(server: Path, weights: Path) -> Sd:
    return Sd(
        server / "sd-server", weights / flux.MODEL, weights / flux.AUTOENCODER, weights / clip.FILE
    )


def _make_server(scratch: Path, target: Path, say: Say) -> None:
    cmake.compiler()
    say("sd-server: fetching its source (21 MB)")
    archive = fetch(SOURCE, scratch)
    with tarfile.open(archive) as files:
        files.extractall(scratch, filter="data")
    unpacked = scratch / archive.name.removesuffix(".tar.gz")
    source = unpacked / "vendor" / "stable-diffusion.cpp"
    program = cmake.build(source, scratch, "sd-server", OPTIONS, say)
    run([str(program), "--help"], scratch)  # it starts on this machine
    shutil.copy(program, target)
    shutil.copy(source / "LICENSE", target)


def _make_weights(target: Path, say: Say) -> None:
    say("sd: making random weights (78 MB)")
    flux.write(target)
    clip.write(target)
