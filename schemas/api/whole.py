"""What a whole answer of an endpoint must hold, so that nothing else passes as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Types = type | tuple[type, ...]


@dataclass(frozen=True, slots=True)
class Holds:
    """`name`: the field with the answer. `kind`: the type of its value. `each`: fields, with their
    types, of which every entry of a list has one; such a list is not empty. `other`: another name
    of the field."""

    name: str
    kind: Types = list
    each: Mapping[str, Types] = field(default_factory=dict)
    other: str = ""

    def missing(self, document: Mapping[str, Any]) -> str:
        """The field that a document lacks, as a message names it; "" if it is an answer."""
        found: Any = document.get(self.name, document.get(self.other))
        fits = isinstance(found, self.kind)
        if not fits or (self.each and not found):
            return repr(self.name)
        if not self.each or all(map(self._is_entry, found)):
            return ""
        return f"{next(iter(self.each))!r} in its {self.name!r}"

    def _is_entry(self, entry: object) -> bool:
        each = self.each.items()
        return isinstance(entry, dict) and any(isinstance(entry.get(n), kind) for n, kind in each)


CHAT = Holds("choices", each={"message": dict})
COMPLETION = Holds("choices", each={"text": str})
EMBEDDINGS = Holds("data", each={"embedding": (list, str)})
PICTURES = Holds("data", each={"b64_json": str, "url": str})
RANKS = Holds("results", each={"index": int})
SCORES = Holds("data", each={"score": (int, float)})
CLASSES = Holds("data", each={"probs": list})
POOLED = Holds("data", each={"data": (list, str)})
JUDGEMENTS = Holds("results", each={"flagged": bool, "categories": dict})
RESPONSE = Holds("output")
MESSAGE = Holds("content")
TOKENS = Holds("input_tokens", int)
TRANSCRIPT = Holds("text", str)
TOKEN_IDS = Holds("tokens")
TEXT_OF_TOKENS = Holds("content", str, other="prompt")
"""As llama-server says it, and as vLLM does."""
TEMPLATED = Holds("prompt", str)
WRITTEN = Holds("content", str)
