"""What a whole answer of an endpoint must hold, so that nothing else passes as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Holds:
    """`field`: where the answer is. `kind`: the type of its value. `each`: fields of which every
    entry of a list has one; such a list is not empty."""

    field: str
    kind: type = list
    each: tuple[str, ...] = ()

    def missing(self, document: Mapping[str, Any]) -> str:
        """The field that a document lacks, as a message names it; "" if it is an answer."""
        found: Any = document.get(self.field)
        fits = isinstance(found, self.kind)
        if not fits or (self.each and not found):
            return repr(self.field)
        if not self.each or all(map(self._is_entry, found)):
            return ""
        return f"{self.each[0]!r} in its {self.field!r}"

    def _is_entry(self, entry: object) -> bool:
        return isinstance(entry, dict) and any(entry.get(name) is not None for name in self.each)


CHAT = Holds("choices", each=("message",))
COMPLETION = Holds("choices", each=("text",))
EMBEDDINGS = Holds("data", each=("embedding",))
PICTURES = Holds("data", each=("b64_json", "url"))
RANKS = Holds("results", each=("index",))
JUDGEMENTS = Holds("results", each=("flagged", "categories"))
RESPONSE = Holds("output")
MESSAGE = Holds("content")
TOKENS = Holds("input_tokens", int)
TRANSCRIPT = Holds("text", str)
