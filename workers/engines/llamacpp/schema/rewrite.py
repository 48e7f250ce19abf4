"""Rewrites a JSON schema for llama-server's grammar. Pure.

Measured on b11549: llama-server silently ignores or misreads patterns (`patterns`), `allOf` of
anything but objects, words beside a reference or a choice, required names without a description,
`items` after `prefixItems`, and `multipleOf`. It refuses `true` as a schema, and ``#``, escapes and
`$anchor` in references. Ranges that nothing fits make it crash. The rewritten schema takes nothing
that the schema does not take, as far as the grammar can express it. The rest stays as it is, and
the ingress checks it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urljoin

from schemas.api.schema_tree import objects, place
from workers.engines.llamacpp.schema import numbers, patterns
from workers.engines.llamacpp.schema.merge import Schema, merge
from workers.engines.llamacpp.schema.parts import Unsaid

MOST_PARTS = 20_000
"""Most subschemas in a rewritten schema; a larger schema stays as it is."""
_ABOUT = ("$comment", "$schema", "$id", "$anchor", "$defs", "definitions", "strict", "examples")
_SAYS_NOTHING = {*_ABOUT, "title", "description", "default", "deprecated", "readOnly", "writeOnly"}
_LEFT_OUT = ("$defs", "definitions", "$schema", "$id", "$anchor", "$ref", "allOf", "oneOf")
_CHOICES = ("anyOf", "oneOf")
_MORE = 4
"""How many items an array that has to contain some may have besides."""
_TOLD = ("title", "description", "default")
_WORDS_OF: Mapping[str, str] = {
    "object": "properties required additionalProperties patternProperties propertyNames"
    " minProperties maxProperties dependentRequired dependentSchemas",
    "array": "items prefixItems minItems maxItems uniqueItems contains",
    "string": "pattern minLength maxLength",
    "number": "minimum maximum exclusiveMinimum exclusiveMaximum multipleOf",
}
"""A schema without a type has the type of which it has one of these words."""

_READ: Mapping[str, tuple[str, ...]] = {
    "object": ("properties", "additionalProperties", "patternProperties"),
    "array": ("items", "prefixItems", "additionalItems", "contains"),
}
"""The inner schemas that are rewritten; references in any others would lead nowhere."""


_DYNAMIC = ("$dynamicRef", "$recursiveRef")
"""In one schema alone, they lead where `$ref` does."""


def rewrite(schema: Schema) -> Schema:
    try:
        dynamic = any(name in each for each in objects(schema) for name in _DYNAMIC)
        return _Writer(_static(schema) if dynamic else schema).whole()
    except (_TooMuch, RecursionError, TypeError, AttributeError, ValueError):
        return schema  # malformed, or too large: the server may refuse it


def _static(found: Any) -> Any:
    if isinstance(found, list):
        return list(map(_static, found))
    if not isinstance(found, dict):
        return found
    return {"$ref" if name in _DYNAMIC else name: _static(each) for name, each in found.items()}


class _TooMuch(Exception):
    """The schema would become too large."""


class _Writer:
    def __init__(self, root: Schema) -> None:
        self._root = root
        self._names: dict[int, str] = {}
        self._waiting: list[tuple[str, Any]] = []
        self._inlined: list[int] = []
        self._kept: list[Any] = []
        """Made here, and known by their `id`, which they must keep."""
        self._left = MOST_PARTS

    def whole(self) -> Schema:
        found = self._visit(self._root)
        named = {}
        while self._waiting:
            name, target = self._waiting.pop()
            named[name] = self._visit(target)
        return {**found, "$defs": named} if named else found

    # References.

    def _visit(self, schema: Any) -> Schema:
        if isinstance(schema, bool):
            return {} if schema else {"enum": []}
        reference = schema.get("$ref")
        if isinstance(reference, str):
            target = self._target(reference)
            if target is None:
                return schema  # type: ignore[no-any-return]
            # What is written out here already would never end, so it stays a reference.
            if _says_nothing_else(schema) or id(target) in self._inlined:
                return self._named(reference, target)
        inlined = len(self._inlined)
        found = self._written(self._expanded(schema))
        del self._inlined[inlined:]
        return found

    def _named(self, reference: str, target: Any) -> Schema:
        """A reference to `target`. A target that is only a reference is followed; if references go
        round in a circle, anything fits."""
        seen = set()
        while isinstance(target, dict) and "$ref" in target and _says_nothing_else(target):
            if id(target) in seen:
                return {}
            seen.add(id(target))
            reference = target["$ref"]
            target = self._target(reference)
        if isinstance(target, bool) or target is None:
            return {}
        if (name := self._names.get(id(target))) is None:
            name = self._names[id(target)] = self._new_name(reference)
            self._waiting.append((name, target))
        return {"$ref": f"#/$defs/{name}"}

    def _new_name(self, reference: str) -> str:
        last = "".join(each for each in reference.rpartition("/")[2] if each.isalnum()) or "root"
        name, number = last, 1
        while name in self._names.values():
            name, number = f"{last}{number}", number + 1
        return name

    def _target(self, reference: str) -> Any:
        """The schema that the reference names; None if there is none."""
        own = str(self._root.get("$id", ""))
        base, _, pointer = reference.partition("#")
        root = self._root if base in ("", own.rstrip("#")) else self._called(urljoin(own, base))
        if pointer and not pointer.startswith("/"):
            return next((each for each in objects(root) if _is_called(each, pointer)), None)
        try:
            return root and place(root, map(unquote, pointer.split("/")[1:]))
        except (KeyError, IndexError):
            return None

    def _called(self, address: str) -> Any:
        """The inner schema with this `$id`; None if there is none."""
        own = str(self._root.get("$id", ""))
        inner = (each for each in objects(self._root) if isinstance(each.get("$id"), str))
        return next((each for each in inner if urljoin(own, each["$id"]) == address), None)

    def _expanded(self, schema: Schema) -> Schema:
        """The schema merged with its reference and with all of its `allOf`."""
        self._left -= 1
        if self._left < 0:
            raise _TooMuch
        found = {name: each for name, each in schema.items() if name not in ("$ref", "allOf")}
        parts = [*(schema.get("allOf") or ())]
        if isinstance(reference := schema.get("$ref"), str):
            target = self._target(reference)
            if id(target) not in self._inlined:
                self._inlined.append(id(target))
                parts.insert(0, target)
        for part in parts:
            if isinstance(part, dict):
                found = merge(found, self._expanded(part))
        return found

    # What is said of values.

    def _written(self, schema: Schema) -> Schema:
        for name in _CHOICES:
            if isinstance(ways := schema.get(name), list):
                return self._choice(schema, ways)
        kinds = _kinds(schema)
        read = {name for kind in kinds for name in _READ.get(kind, ())}
        kept = {
            name: each
            for name, each in schema.items()
            if name not in _LEFT_OUT and (name in read or not _refers(each))
        }
        if schema.get("enum") or "const" in schema:
            return _without(kept, "type")
        if not kinds:
            return kept
        kept["type"] = schema.get("type", kinds[0])
        if "object" in kinds:
            self._object(kept)
        if "array" in kinds:
            self._array(kept)
        if "string" in kinds:
            _string(kept)
        return numbers.rewrite(kept) if "integer" in kinds or "number" in kinds else kept

    def _choice(self, schema: Schema, ways: list[Any]) -> Schema:
        """The choice; words beside the choice become part of each way."""
        beside = {n: each for n, each in schema.items() if n not in (*_CHOICES, *_SAYS_NOTHING)}
        found = []
        for way in ways:
            whole = {"allOf": [way, beside]} if beside and isinstance(way, dict) else way
            if way is not False:
                found.append(self._visit(whole))
        return {"anyOf": found, **{n: schema[n] for n in _TOLD if n in schema}}

    def _object(self, kept: Schema) -> None:
        described = kept.get("properties") or {}
        more = kept.get("additionalProperties")
        patterned = list((kept.pop("patternProperties", None) or {}).values())
        if patterned and more in (None, False):
            more = patterned[0] if len(patterned) == 1 else True
        if isinstance(more, dict):
            more = self._visit(more)
        if more is not None:
            kept["additionalProperties"] = more
        found = {n: self._visit(each) for n, each in described.items() if each is not False}
        # llama-server passes over a required name that is not described.
        for name in kept.get("required") or ():
            found.setdefault(name, more if isinstance(more, dict) else {})
        if found or described:
            kept["properties"] = found

    def _array(self, kept: Schema) -> None:
        wanted, fewest = _contained(kept)
        least, most = _counts(kept, "minItems", "maxItems")
        if fewest and kept["type"] == "array" and self._containing(kept, wanted, fewest):
            return
        items = kept.get("items")
        first = items if isinstance(items, list) else kept.get("prefixItems")
        if not first:
            kept.pop("prefixItems", None)
            if items is False:
                kept["maxItems"] = 0
            kept["items"] = self._visit(items) if isinstance(items, dict) else {}
            return
        more = kept.pop("additionalItems", None)
        after = more if isinstance(items, list) else items
        found = [self._visit(each) for each in first][: most if most is not None else None]
        found += [self._visit(after if isinstance(after, dict) else {})] * (least - len(found))
        kept.pop("items", None)
        kept["prefixItems"] = found

    def _containing(self, kept: Schema, wanted: Any, fewest: int) -> bool:
        """Make of `kept` an array with `fewest` items that fit `wanted`. The grammar cannot look
        for them, so they come first, and a few others after them. False if there is no room."""
        least, most = kept.get("minItems") or 0, kept.get("maxItems")
        items = kept.get("items")
        first = items if isinstance(items, list) else kept.get("prefixItems") or []
        after = kept.get("additionalItems") if isinstance(items, list) else items
        after = after if isinstance(after, dict) else {}
        least = max(least, len(first) + fewest)
        last = least + _MORE if most is None else min(most, least + _MORE)
        if last < least:
            return False
        both = self._shared({"allOf": [wanted, after]} if after else wanted)
        begun = [*map(self._shared, first), *[both] * fewest]
        more = self._shared(after) if last > len(begun) else {}
        ways = [begun + [more] * (size - len(begun)) for size in range(least, last + 1)]
        kept.clear()
        kept["anyOf"] = [
            {"type": "array", "prefixItems": way, "minItems": len(way), "maxItems": len(way)}
            for way in ways
        ]
        return True

    def _shared(self, schema: Any) -> Schema:
        """A reference to a schema that is written once, though it stands in many places."""
        self._kept.append(schema)
        return self._named("#/item", schema)


def _string(kept: Schema) -> None:
    least, most = _counts(kept, "minLength", "maxLength")
    pattern = kept.pop("pattern", None)
    if isinstance(pattern, str):
        try:
            more = {} if most is None else {"most": most}
            kept["pattern"] = patterns.rewrite(pattern, least, **more)
        except patterns.Empty:
            kept["maxLength"] = 0
        except Unsaid:
            pass


def _contained(kept: Schema) -> tuple[Any, int]:
    """Take out what an array has to contain: its schema, and how many items must fit it. That no
    more may fit it is said as the most items of all."""
    wanted = kept.pop("contains", None)
    fewest, largest = kept.pop("minContains", 1), kept.pop("maxContains", None)
    wanted = {} if wanted is True else wanted
    if not isinstance(wanted, dict) or not isinstance(fewest, int | float):
        return None, 0
    if isinstance(largest, int | float) and largest >= max(fewest, kept.get("minItems") or 0):
        kept["maxItems"] = min(largest, kept.get("maxItems", largest))
    return wanted, min(int(fewest), patterns.MOST)


def _counts(kept: Schema, least: str, most: str) -> tuple[int, int | None]:
    """Set both bounds to whole numbers that the grammar takes, and return them. The upper one is
    left out if nothing would fit."""
    low, high = (kept.get(name) for name in (least, most))
    if isinstance(low, int | float):
        kept[least] = min(int(low), patterns.MOST)
    if isinstance(high, int | float):
        kept[most] = int(high)
        if isinstance(low, int | float) and low > high:
            del kept[most]
    found = kept.get(least), kept.get(most)
    return (found[0] if isinstance(found[0], int) else 0), found[1]


def _kinds(schema: Schema) -> list[str]:
    kind = schema.get("type")
    if kind is not None:
        return kind if isinstance(kind, list) else [kind]
    return [
        each for each, words in _WORDS_OF.items() if not schema.keys().isdisjoint(words.split())
    ][:1]


def _without(schema: Schema, *names: str) -> Schema:
    return {name: each for name, each in schema.items() if name not in names}


def _says_nothing_else(schema: Schema) -> bool:
    return all(name == "$ref" or name in _SAYS_NOTHING for name in schema)


def _refers(found: Any) -> bool:
    return any("$ref" in each for each in objects(found))


def _is_called(schema: Schema, name: str) -> bool:
    anchors = schema.get("$anchor"), schema.get("$dynamicAnchor")
    return name in anchors or schema.get("$id") == f"#{name}"
