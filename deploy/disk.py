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
_LOOKED_AT = 256 * 2**10
"""Bytes at the end of the broker's log."""
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
        why = "the broker could not write to its disk, and confirms no request since then"
        mend = "see that there is room, and start it again: what it had confirmed is there"
        yield Finding("fail", why, mend)


def _write_failed(log: Path) -> bool:
    """Whether the broker said so since it was started last."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LOOKED_AT))
            said = file.read(_LOOKED_AT)
    except FileNotFoundError:
        return False
    return _FAILED in said.rpartition(_STARTED)[2].lower()
