"""The broker's directory: made, claimed by one owner at a time, and asked who runs there."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy.nats.credentials import write_private
from deploy.nats.errors import StoreBusy, StoreUnusable

LOCK = "broker.lock"
ADDRESS = "broker.json"
_LOCK_PATIENCE = 0.5
"""Seconds to wait for the lock: a killed owner's server dies too, but lets go a bit later."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a broker answers: ``nats://host:port``, ``http://host:port`` or "", and its process.

    Of one that other machines reach, `url` is tls://…, `ca` the file of whom to trust (""
    : whom the system does), `tls_name` whom its certificate is for if not the host of `url`,
    `addresses` how others call it, and `fingerprint` the SHA-256 of its CA (hex, "" for one that
    every machine knows).
    """

    url: str
    http_url: str
    pid: int
    ca: str = ""
    tls_name: str = ""
    addresses: tuple[str, ...] = ()
    fingerprint: str = ""

    @property
    def reaching(self) -> dict[str, str]:
        """What a process of this machine needs beside a login, by the names of settings."""
        return {"url": self.url, "ca": self.ca, "tls_name": self.tls_name}


def find(store: Path) -> Address | None:
    """The broker that runs on `store`, as its owner wrote it down; None when none does.

    An owner that was killed leaves its note behind, so the address may be dead.
    """
    try:
        found = json.loads((store / ADDRESS).read_text())
        return Address(**{**found, "addresses": tuple(found.get("addresses", ()))})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, AttributeError) as fault:
        raise StoreUnusable(f"{store / ADDRESS}: {fault}") from fault


def note(store: Path, address: Address | None) -> None:
    """Write down what `find` reads; None: no broker runs."""
    if address:
        write_private(store / ADDRESS, json.dumps(asdict(address)) + "\n")
    else:
        (store / ADDRESS).unlink(missing_ok=True)


@contextmanager
def claimed(store: Path) -> Iterator[int]:
    """Own `store`, made if need be, mode 0700; yields the lock's descriptor.

    The lock is an flock, so it is held until every process that inherited the descriptor is gone.
    Raises StoreBusy when another owner holds it, StoreUnusable when the directory is no store.
    """
    try:
        _prepare(store)
        lock = os.open(store / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as fault:
        raise StoreUnusable(f"{store}: {fault.strerror}") from fault
    try:
        _lock(store, lock)
        note(store, None)  # an owner that was killed has left its address behind
        yield lock
    finally:
        os.close(lock)


def _prepare(store: Path) -> None:
    store.mkdir(mode=0o700, parents=True, exist_ok=True)
    inside = os.listdir(store)
    # Taking a directory over closes it to others and mixes our files with theirs.
    if inside and LOCK not in inside:
        raise StoreUnusable(f"{store} holds other files: name an empty or a new directory")
    store.chmod(0o700)


def _lock(store: Path, lock: int) -> None:
    deadline = time.monotonic() + _LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                owner = os.pread(lock, 20, 0).decode(errors="replace").strip() or "unknown"
                raise StoreBusy(f"{store} is in use: process {owner} runs a broker on it") from None
        except OSError as fault:
            raise StoreUnusable(f"{store / LOCK}: {fault.strerror}") from fault
        time.sleep(0.01)
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
