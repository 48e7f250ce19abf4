"""Covers the secrets in this process's own command line, which every user of a machine may read
(``ps``, ``/proc/PID/cmdline``): logins within URLs, what `--key` says, and tokens of `--join`.

Linux shows the memory that the arguments were put into at the start (proc(5): ``arg_start`` and
``arg_end`` of ``/proc/PID/stat``), so that is written over. Until then, for the moment that Python
takes to start, they can be read: a file or the environment is better, where they never can.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_LOGINS = re.compile(rb"(?<=//)[^\s,\0]+(?=@)|(?<=--key[\0=])[^\0]+|\bhrj\d+_[\w-]+")
_START, _END = 45, 46
"""Places behind the program's name in ``/proc/PID/stat``."""


def has_secrets(arguments: Sequence[str]) -> bool:
    return _LOGINS.search(_line(arguments)) is not None


def covered(line: bytes) -> bytes:
    """`line`, as long as it was, with stars for each secret. Arguments end with a NUL each."""
    return _LOGINS.sub(lambda found: b"*" * len(found.group()), line)


def cover() -> bool:
    """Whether nobody can read a secret in the command line of this process any more."""
    try:
        with open("/proc/self/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
        start, end = int(fields[_START]), int(fields[_END])
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(start)
            line = memory.read(end - start)
            memory.seek(start)
            memory.write(covered(line))
        with open("/proc/self/cmdline", "rb") as shown:
            line = shown.read()
    except (OSError, ValueError, IndexError):
        return False
    return line == covered(line)


def _line(arguments: Sequence[str]) -> bytes:
    return b"".join(each.encode("utf-8", "surrogateescape") + b"\0" for each in arguments)
