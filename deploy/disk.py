"""What the doctor says of the disk that a broker on this machine writes to."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from deploy import home
from deploy.findings import Finding
from deploy.nats.config import LOG_NAME

FULL, SHORT = 16 * 2**20, 256 * 2**20
"""Bytes that are free: below the first the broker soon cannot write, below the second it is time to
make room. JetStream writes blocks of up to 8 MiB."""
_STARTED = b"Starting nats-server"
_FAILED = b"critical write error"
_FREE = "free some, or name a data directory elsewhere with --data"


def look(data: Path) -> Iterator[Finding]:
    """Nothing for a data directory in which no broker ran. Raises OSError."""
    store = home.broker_store(data)
    if not store.is_dir():
        return
    free = shutil.disk_usage(store).free
    said = f"{free // 2**20} MiB are free on the disk of {store}"
    if free < FULL:
        yield Finding("fail", said, _FREE)
    else:
        yield Finding("ok", said) if free >= SHORT else Finding("warn", said, _FREE)
    if _write_failed(store / LOG_NAME):
        why = (
            "since its last start the broker could not write to its disk: it confirms nothing more"
        )
        mend = "see that there is room, and start it again: what it had confirmed is there"
        yield Finding("fail", why, mend)


def _write_failed(log: Path) -> bool:
    """Whether the broker said so since it was started last: in this file, or in an older one to
    which it was rotated since, whose name has the time behind it. Each has up to `LOG_SIZE`."""
    for file in (log, *sorted(log.parent.glob(f"{log.name}.*"), reverse=True)):
        try:
            _, started, said = file.read_bytes().rpartition(_STARTED)
        except FileNotFoundError:  # it may be rotated, or go, meanwhile
            continue
        if _FAILED in said.lower():
            return True
        if started:
            return False
    return False
