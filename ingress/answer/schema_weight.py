"""How much work it is at most to hold a text against a schema. Pure.

Two things multiply: references that are written out, and what a subschema costs at each place of
the text. A schema whose weight is known cannot hold anybody up by more than weight × text, while
one that refers to itself may take exponential time (`docs/adr/0011-schemas.md`).
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

HEAVY = 1 << 20
"""Of a schema that refers to itself, or whose references cannot be followed here."""
PATTERN = 100
"""Of one pattern, for which a size limit holds (measured: at most 4.5 µs for each letter of the
text, where any other subschema takes 0.05)."""
_ELSEWHERE = ("$dynamicRef", "$recursiveRef", "$id")
"""They say that references mean something else than a place in this document."""


def weight(schema: dict[str, Any]) -> int:
    """Values in it, with all references written out."""
    try:
        return min(HEAVY, _Weights(schema).of(schema))
    except RecursionError:
        return HEAVY


class _Weights:
    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._known: dict[int, int] = {}

    def of(self, found: Any) -> int:
        """What was met again while it is weighed refers to itself."""
        if not isinstance(found, dict | list):
            return 1
        if (known := self._known.get(id(found))) is None:
            self._known[id(found)] = HEAVY
            known = self._known[id(found)] = self._inside(found)
        return known

    def _inside(self, found: dict[str, Any] | list[Any]) -> int:
        if isinstance(found, list):
            return 1 + sum(map(self.of, found))
        total = 1 + sum(map(self.of, found.values()))
        if not found.keys().isdisjoint(_ELSEWHERE):
            return HEAVY
        total += PATTERN * ("pattern" in found)
        total += PATTERN * len(found.get("patternProperties") or ())
        reference = found.get("$ref")
        return total if reference is None else total + self.of(self._target(reference))

    def _target(self, reference: object) -> Any:
        """Itself, which is heavy, if it is no pointer that leads anywhere."""
        place: Any = self._root
        steps = str(reference).split("/")
        if steps[0] != "#":
            return self._root
        for step in steps[1:]:
            name = unquote(step).replace("~1", "/").replace("~0", "~")
            try:
                place = place[int(name) if isinstance(place, list) else name]
            except (KeyError, IndexError, ValueError, TypeError):
                return self._root
        return place
