"""The source archive of a package, which has its tests: got by pip, unpacked beside what is
installed."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tests.clients.install import CACHE as CLIENTS

CACHE = CLIENTS.parent / "suites"


@dataclass(frozen=True, slots=True)
class Source:
    """`folders`: those in the archive that are unpacked."""

    name: str
    folders: tuple[str, ...] = ("tests",)

    @property
    def _place(self) -> Path:
        return CACHE / "sources" / self.name

    def get(self) -> None:
        """Raises CalledProcessError, with what pip said on stderr."""
        if self._place.exists():
            return
        made = self._place.with_suffix(".part")
        made.mkdir(parents=True, exist_ok=True)
        print(f"getting the source of {self.name}", file=sys.stderr, flush=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        wanted = ["--no-deps", "--no-binary", self.name, "--dest", str(made), self.name]
        subprocess.run(["nice", *pip, *wanted], check=True, stdout=sys.stderr)
        archive = next(made.glob("*.tar.gz"))
        with tarfile.open(archive) as opened:
            members = [member for member in opened if self._wants(member.name)]
            opened.extractall(made, members, filter="data")
        archive.unlink()
        made.rename(self._place)

    def _wants(self, name: str) -> bool:
        return name.count("/") == 1 or any(f"/{folder}/" in name for folder in self.folders)

    @property
    def folder(self) -> Path:
        """What the archive has at its root: the name and the version."""
        return next(self._place.iterdir())

    def version(self) -> str:
        return self.folder.name.rpartition("-")[2]
