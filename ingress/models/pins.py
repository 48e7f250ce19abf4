"""Which nodes a request is for: it names one, or labels, and its key may be bound to some. Pure.

A request says it in ``x-headrace-node``, or in ``x-wai-node``: the name of a node, or labels, all
of which the node must have (``gpu=4090,zone=home``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from schemas import bounds, labels
from schemas.errors import InsufficientScope, InvalidRequest
from schemas.globs import Globs, may_use

HEADER = "x-headrace-node"
HEADERS = frozenset({HEADER.encode(), b"x-wai-node"})


@dataclass(frozen=True, slots=True)
class Pin:
    """The nodes that may have a request. `name`: the one that it names. `labels`: all of these are
    wanted. `globs`: those of its key."""

    name: str = ""
    labels: tuple[str, ...] = ()
    globs: Globs = ()

    def allows(self, node: str, has: Collection[str]) -> bool:
        """Whether a node with these labels may have it."""
        if self.name and node != self.name:
            return False
        return may_use(node, self.globs) and all(label in has for label in self.labels)

    @property
    def by_request(self) -> bool:
        """Whether the request itself says so, and not its key alone."""
        return bool(self.name or self.labels)

    def __str__(self) -> str:
        if self.name:
            return f"the node {self.name!r}"
        if self.labels:
            return f"a node with {', '.join(self.labels)}"
        return "a node that its key may use"


def of(headers: Iterable[tuple[bytes, bytes]], globs: Globs = ()) -> Pin | None:
    """The pin of a request with these `headers`, None if it may go to any node. `globs`: those of
    its key. Raises InvalidRequest, InsufficientScope."""
    said = [value for name, value in headers if name in HEADERS]
    if not said:
        return Pin(globs=globs) if globs else None
    texts = {_text(each) for each in said}
    if len(texts) > 1:
        why = f"{HEADER} and x-wai-node say different things. Send one of them."
        raise InvalidRequest(why, param=HEADER)
    return _pin(texts.pop(), globs)


def _pin(text: str, globs: Globs) -> Pin:
    if not bounds.is_text(text) or not text.isprintable() or not text:
        why = "send the name of a node, or labels as gpu=4090,zone=home"
        raise InvalidRequest(f"{HEADER}: {why}.", param=HEADER)
    if "=" in text:
        if (found := labels.parse(text)) is None:
            raise InvalidRequest(f"{HEADER}: {labels.RULE}; commas part them.", param=HEADER)
        return Pin(labels=found, globs=globs)
    if not may_use(text, globs):
        raise InsufficientScope(f"This key may not use the node {text!r}.", param=HEADER)
    return Pin(text, globs=globs)


def _text(value: bytes) -> str:
    """Names beyond ASCII come as UTF-8."""
    try:
        return value.decode().strip()
    except UnicodeDecodeError:
        return value.decode("latin-1").strip()
