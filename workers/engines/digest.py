"""What the weights of an engine are: a word for its card that changes when they do.

Answers that are kept go by it (`ingress.cache`): a new file behind the same name must not get the
answers of the old one. So what an engine merely calls its model is not enough. It counts what the
engine says of its files, and the file itself where this machine has it. Not all of a file is read,
as that takes a minute.
"""

from __future__ import annotations

import asyncio
import hashlib
import os

import orjson

from schemas import settings

_READ = 2**20
"""Bytes at the beginning and at the end of a file: the first have the names and places of all its
tensors."""
_LETTERS = 32


async def find(config: settings.Engine, *told: object, file: str = "") -> str:
    """As `said`, whose file is read in a thread."""
    return await asyncio.to_thread(said, config, *told, file=file)


def said(config: settings.Engine, *told: object, file: str = "") -> str:
    """The digest of a model. `told`: what its engine says that tells its weights from others; None
    of it if nothing does. `file`: where it says that they are. A word of the config counts before
    all. "" means unknown. Reads a file, which may take a while."""
    if config.digest:
        return config.digest
    found = of_file(config.file or file)
    if not found and not any(told):
        return ""
    return of(config.kind, found, *told)


def of(*parts: object) -> str:
    """One word for all `parts`, which are as JSON has them."""
    written = orjson.dumps(parts, option=orjson.OPT_SORT_KEYS, default=str)
    return hashlib.sha256(written).hexdigest()[:_LETTERS]


def of_file(path: str) -> str:
    """What tells the file at `path` from another one there; "" if this machine does not have it."""
    if not path:
        return ""
    try:
        with open(os.path.expanduser(path), "rb") as file:
            state = os.fstat(file.fileno())
            ends = file.read(_READ)
            if state.st_size > _READ:
                file.seek(max(_READ, state.st_size - _READ))
                ends += file.read(_READ)
    except (OSError, ValueError):
        return ""
    return f"{state.st_size}-{state.st_mtime_ns}-{hashlib.sha256(ends).hexdigest()[:_LETTERS]}"
