"""Installs a client as a person would, from its registry, into a folder of its own.

The folder lies in `.cache`, which Git ignores. One that is there is used again.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CACHE = Path(__file__).parents[2] / ".cache" / "clients"
_DONE = ".installed"


@dataclass(frozen=True, slots=True)
class Packages:
    """What a client is made of; the first of the `names` is the one whose version is told."""

    registry: Literal["npm", "pip"]
    names: tuple[str, ...]
    cache: Path = CACHE

    @property
    def folder(self) -> Path:
        return self.cache / self.registry / self.names[0].strip("@").replace("/", "-")

    def install(self) -> None:
        """Raises CalledProcessError, with what the installer said on stderr."""
        wanted = " ".join(self.names)
        done = self.folder / _DONE
        if done.exists() and done.read_text() == wanted:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        print(f"installing {wanted}", file=sys.stderr, flush=True)
        for command in self._npm() if self.registry == "npm" else self._pip():
            subprocess.run(["nice", *command], cwd=self.folder, check=True, stdout=sys.stderr)
        done.write_text(wanted)

    def _npm(self) -> list[list[str]]:
        (self.folder / "package.json").write_text('{"private": true}\n')
        return [["npm", "install", "--silent", "--no-audit", "--no-fund", *self.names]]

    def _pip(self) -> list[list[str]]:
        pip = ["bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        return [[sys.executable, "-m", "venv", "."], [*pip, *self.names]]

    def versions(self) -> str:
        """Of the packages that were asked for, as they were installed."""
        find = self._npm_version if self.registry == "npm" else self._pip_version
        return ", ".join(f"{name} {find(name)}" for name in map(_bare, self.names))

    def _npm_version(self, name: str) -> str:
        code = f"process.stdout.write(require('./node_modules/{name}/package.json').version)"
        return self._said(["node", "-e", code])

    def _pip_version(self, name: str) -> str:
        code = f"import importlib.metadata as m; print(m.version({name!r}), end='')"
        return self._said(["bin/python", "-c", code])

    def _said(self, command: list[str]) -> str:
        ran = subprocess.run(command, cwd=self.folder, check=True, capture_output=True, text=True)
        return ran.stdout


def _bare(name: str) -> str:
    """The name without its extras."""
    return name.partition("[")[0]
