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
    """`tests`: the folder in the archive that is unpacked."""

    name: str
    tests: str = "tests"

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
            wanted_members = [
                member
                for member in opened
                if f"/{self.tests}/" in member.name or member.name.count("/") == 1
            ]
            opened.extractall(made, wanted_members, filter="data")
        archive.unlink()
        made.rename(self._place)

    @property
    def folder(self) -> Path:
        """What the archive has at its root: the name and the version."""
        return next(self._place.iterdir())

    def version(self) -> str:
        return self.folder.name.rpartition("-")[2]
