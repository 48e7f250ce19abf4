"""Labels of nodes, as ``gpu=4090``: what operators say of a machine, and clients ask for. Pure."""

from __future__ import annotations

import re

MOST = 32
"""Labels of one node, and of one request."""
_LONGEST = 63
_PART = rf"[A-Za-z0-9]([A-Za-z0-9_./:-]{{0,{_LONGEST - 2}}}[A-Za-z0-9])?"
"""Kubernetes' letters, and those of names of models and graphics cards."""
_LABEL = re.compile(rf"{_PART}={_PART}")

RULE = (
    f"a label is NAME=VALUE, each of 1 to {_LONGEST} letters, digits and '._/:-', and begins and "
    "ends with a letter or digit"
)


def is_label(text: str) -> bool:
    return _LABEL.fullmatch(text) is not None


def parse(text: str) -> tuple[str, ...] | None:
    """The labels of ``zone=home, gpu=4090`` in order, each once; None if that is no list of
    labels."""
    found = sorted({part.strip() for part in text.split(",")})
    return tuple(found) if len(found) <= MOST and all(map(is_label, found)) else None
