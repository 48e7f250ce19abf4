"""Gives memory that Python has freed back to the system: glibc keeps what lies below something that
is still in use."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

_ARENAS = -8
"""M_ARENA_MAX of glibc's `mallopt`."""


def trimmer() -> Callable[..., object]:
    """glibc's `malloc_trim`, which takes the bytes to keep at the top."""
    return _glibc("malloc_trim")


def share() -> None:
    """Have threads allocate where the event loop does: what glibc keeps for each of them, up to
    64 MiB, `malloc_trim` does not give back."""
    _glibc("mallopt")(_ARENAS, 1)


def _glibc(name: str) -> Callable[..., object]:
    """Nothing where there is another library, or none that can be loaded."""
    try:
        found: Callable[..., object] = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError, TypeError):
        return _nothing
    return found


def _nothing(*_: int) -> None:
    """For systems whose allocator gives back by itself, or never."""
