"""Gives memory that Python has freed back to the system: glibc keeps what lies below something that
is still in use."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

_ARENAS, _MAPPED, _TOP = -8, -3, -1
"""M_ARENA_MAX, M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of glibc's `mallopt`."""
LARGE = 4 * 2**20
"""Bytes from which a block has pages of its own."""
KEPT = 8 * 2**20
"""Free bytes at the top of the heap that glibc keeps for what comes next."""


def trimmer() -> Callable[..., object]:
    """glibc's `malloc_trim`, which takes the bytes to keep at the top."""
    return _glibc("malloc_trim")


def share() -> None:
    """Have threads allocate where the event loop does: what glibc keeps for each of them, up to
    64 MiB, `malloc_trim` does not give back."""
    _glibc("mallopt")(_ARENAS, 1)


def steady() -> None:
    """Have large blocks on pages of their own, always: one that grows is moved without a copy, and
    one that is freed goes back at once. Left alone, glibc ends that when the first of them is freed
    (mallopt(3)): the next text of 27 MB, which grew piece by piece, was copied in one of its steps,
    and held the event loop for 10 ms, or 40 on a busy machine (measured)."""
    mallopt = _glibc("mallopt")
    mallopt(_MAPPED, LARGE)
    mallopt(_TOP, KEPT)


def _glibc(name: str) -> Callable[..., object]:
    """Nothing where there is another library, or none that can be loaded."""
    try:
        found: Callable[..., object] = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError, TypeError):
        return _nothing
    return found


def _nothing(*_: int) -> None:
    """For systems whose allocator gives back by itself, or never."""
