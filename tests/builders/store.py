"""The directory of what was built: one entry for each name and version, whole or not there."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

Say = Callable[[str], None]
"""Takes one line of progress."""


def root() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "headrace" / "engines"


def find(name: str) -> Path | None:
    """The entry `name` (``<name>-<version>``) if it has been built."""
    path = root() / name
    return path if path.is_dir() else None


def obtain(name: str, make: Callable[[Path, Path], None], say: Say) -> Path:
    """The entry `name`; `make(scratch, target)` builds it first if it is not there.

    `scratch` is an empty directory that is thrown away, `target` the one that is kept, under
    another path later on. Of several processes one builds and the others wait for it. What
    `make` raises comes through.
    """
    if (found := find(name)) is not None:
        return found
    root().mkdir(parents=True, exist_ok=True)
    with _alone(root() / f"{name}.lock", say, name):
        if (found := find(name)) is not None:
            return found
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=root()) as directory:
            scratch, target = Path(directory, "scratch"), Path(directory, "target")
            scratch.mkdir()
            target.mkdir()
            make(scratch, target)
            # Last, and atomic: an entry that exists is whole.
            target.rename(root() / name)
    return root() / name


@contextmanager
def _alone(lock: Path, say: Say, name: str) -> Iterator[None]:
    """Holds `lock` for the block; the kernel frees it should this process die."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{name}: another process builds it; waiting")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
