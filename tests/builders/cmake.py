"""Compiles one target of a CMake project, with the machine's tools or with those of the index."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.builders.errors import ToolMissing
from tests.builders.process import run
from tests.builders.store import Say

COMPILERS = ("c++", "g++", "clang++")
GET_COMPILER = (
    "install one (Debian and Ubuntu: apt-get install g++; Fedora: dnf install gcc-c++; "
    "macOS: xcode-select --install), or name one in CXX"
)


def compiler() -> str:
    """The C++ compiler that CMake will find. Raises ToolMissing."""
    wanted = os.environ.get("CXX", "").split()
    for name in wanted[:1] or COMPILERS:
        if found := shutil.which(name):
            return found
    what = f"CXX names {wanted[0]!r}, which is not there" if wanted else "there is no C++ compiler"
    raise ToolMissing(f"{what}: {GET_COMPILER}")


def tools(scratch: Path, say: Say) -> tuple[str, str]:
    """(cmake, ninja): those in PATH, else from the index, for this build alone."""
    cmake, ninja = shutil.which("cmake"), shutil.which("ninja")
    if cmake and ninja:
        return cmake, ninja
    say("fetching cmake and ninja")
    place = scratch / "tools"
    run([sys.executable, "-m", "venv", str(place)], scratch)
    pip = [str(place / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
    run([*pip, "install", "cmake", "ninja"], scratch)
    return str(place / "bin" / "cmake"), str(place / "bin" / "ninja")


def build(source: Path, scratch: Path, target: str, options: Sequence[str], say: Say) -> Path:
    """The built program `target` of the project `source`, below `scratch`.

    Raises ToolMissing before any work, BuildError with the compiler's last lines.
    """
    compiler()
    cmake, ninja = tools(scratch, say)
    place = scratch / "build"
    settings = ["-DCMAKE_BUILD_TYPE=Release", "-DBUILD_SHARED_LIBS=OFF", *options]
    generator = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
    say(f"{target}: configuring")
    run([cmake, "-S", str(source), "-B", str(place), *generator, *settings], scratch)
    run([ninja, "-C", str(place), target], scratch, _Progress(target, say))
    return place / "bin" / target


class _Progress:
    """Says every quarter of the way, in order not to fill a log."""

    def __init__(self, target: str, say: Say) -> None:
        self._target = target
        self._say = say
        self._quarter = -1

    def __call__(self, done: int, steps: int) -> None:
        quarter = done * 4 // steps
        if done and quarter > self._quarter:  # 0: it looks again at what there is to build
            self._quarter = quarter
            self._say(f"{self._target}: compiling, {done} of {steps}")
