"""The links that sign in once, as a file of the data directory that the console and those who make
links share: `headrace up` and `headrace console link`. It has no link, but the digests of them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from deploy.console import signin
from deploy.console.signin import Links
from deploy.nats.credentials import write_private

FILE = "console-links"
ADDRESS = "console-address"
"""Where the console listens that runs on a data directory."""


def make(data: Path) -> str:
    """A new token. Raises OSError."""
    with _locked(data):
        token, links = signin.make_link(_read(data), time.time())
        _write(data, links)
    return token


def use(data: Path, token: str) -> bool:
    """Whether a token is good, which it is once. Raises OSError."""
    if not (data / FILE).exists():
        return False
    with _locked(data):
        good, links = signin.use_link(_read(data), token, time.time())
        _write(data, links)
    return good


def path(token: str) -> str:
    """Of the page that signs in."""
    return f"/in/{token}"


@contextlib.contextmanager
def told(data: Path, url: str, here: str) -> Iterator[None]:
    """Have others find the console at `url` while the block runs. `here`: how this machine calls
    it. Raises OSError."""
    with _opened(data / f".{ADDRESS}.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)  # a console that is killed holds it no more
        write_private(data / ADDRESS, f"{url}\n{here}\n")
        try:
            yield
        finally:
            (data / ADDRESS).unlink(missing_ok=True)


def address(data: Path) -> tuple[str, str] | None:
    """How browsers call the console of this data directory, and how this machine does; None if
    there is none. One that was killed leaves its address behind, where another program may listen
    by now."""
    try:
        url, here = (data / ADDRESS).read_text().split()
        return (url, here) if _is_held(data / f".{ADDRESS}.lock") else None
    except (OSError, ValueError):
        return None


def _is_held(path: Path) -> bool:
    with _opened(path) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


@contextlib.contextmanager
def _locked(data: Path) -> Iterator[None]:
    with _opened(data / f".{FILE}.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _opened(path: Path) -> TextIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w")


def _read(data: Path) -> Links:
    """Those of a file that was damaged are lost, and made anew."""
    try:
        found = json.loads((data / FILE).read_text())
        return {str(known): float(until) for known, until in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _write(data: Path, links: Links) -> None:
    write_private(data / FILE, json.dumps(dict(links)) + "\n")
