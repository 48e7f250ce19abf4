"""How much each node may say of itself. Whoever has a node's login can send cards as fast as the
line takes them, and each is parsed by every ingress. Pure."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

CARDS = 512
"""Cards of one node in a second: each of its processes sends one, and another at each change."""
BYTES = 4 * 2**20
"""Bytes of these."""
PROCESSES = 256
"""Processes of one node at a time."""
QUIET = 10.0
"""Seconds without a card after which a process counts no more."""
MOST_NODES = 4096


@dataclass(slots=True)
class _Node:
    second: int = 0
    cards: int = 0
    bytes: int = 0
    heard: dict[str, float] = field(default_factory=dict)
    """When each of its processes was heard last."""


class Floods:
    def __init__(self) -> None:
        self._nodes: OrderedDict[str, _Node] = OrderedDict()
        """By token, those that were heard last at the end."""

    def admits(self, node: str, holder: str, size: int, now: float) -> bool:
        """Whether one more card is read, of `size` bytes. `node`: its token, `now`: monotonic."""
        found = self._nodes.get(node)
        if found is None:
            found = self._nodes[node] = _Node()
            if len(self._nodes) > MOST_NODES:
                self._nodes.popitem(last=False)
        self._nodes.move_to_end(node)
        if int(now) != found.second:
            found.second, found.cards, found.bytes = int(now), 0, 0
        found.cards += 1
        found.bytes += size
        if found.cards > CARDS or found.bytes > BYTES:
            return False
        return self._knows(found.heard, holder, now)

    def _knows(self, heard: dict[str, float], holder: str, now: float) -> bool:
        if holder not in heard and len(heard) >= PROCESSES:
            for gone in [each for each, at in heard.items() if now - at > QUIET]:
                del heard[gone]
            if len(heard) >= PROCESSES:
                return False
        heard[holder] = now
        return True
