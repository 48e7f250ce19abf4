"""How many files and sockets this process may have open."""

from __future__ import annotations

MOST = 65_536
"""More are not asked for, whatever the system would allow."""
_USUAL = 1024


def limit() -> int:
    """The limit, once it is raised as far as it can be: many shells and services begin with 1,024,
    and allow far more."""
    try:
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (ImportError, ValueError, OSError):
        return _USUAL
    return wanted
