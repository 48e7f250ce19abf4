"""Names that keys and nodes are bound to, as patterns: of models, and of nodes. Pure."""

from __future__ import annotations

from fnmatch import fnmatchcase

Globs = tuple[str, ...]


def may_use(name: str, globs: Globs) -> bool:
    """Whether a key or node that is bound to these may use what has the name; () binds to none."""
    return not globs or any(fnmatchcase(name, glob) for glob in globs)
