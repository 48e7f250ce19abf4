"""Takes ways of a pattern apart: their first letters, their lengths, their letters. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from workers.engines.llamacpp.schema import letters
from workers.engines.llamacpp.schema.letters import Ranges
from workers.engines.llamacpp.schema.parts import ENDLESS, START, Either, Letter, Part, Times, Way


def heads(way: Way) -> Iterator[tuple[Ranges, Way]]:
    """Each first letter that a way may have, with what then follows."""
    if not way:
        return
    part, rest = way[0], way[1:]
    match part:
        case Letter(ranges):
            yield ranges, rest
        case Either(ways):
            for each in ways:
                yield from heads((*each, *rest))
        case Times(inner, least, most):
            if most > 0:
                # Without a bound, it has none after its first letter either.
                again = Times(inner, max(0, least - 1), most - (most < ENDLESS))
                for ranges, left in heads((inner,)):
                    yield ranges, (*left, again, *rest)
            if least == 0 or is_empty((inner,)):
                yield from heads(rest)
        case _ if part == START:
            yield from heads(rest)


def is_empty(way: Way) -> bool:
    """Whether the empty text fits."""
    return all(map(_may_be_empty, way))


def _may_be_empty(part: Part) -> bool:
    match part:
        case Letter():
            return False
        case Either(ways):
            return any(map(is_empty, ways))
        case Times(inner, least):
            return least == 0 or _may_be_empty(inner)
    return True


def mapped(way: Way, kept: Ranges) -> Way | None:
    """The way with no other letters than those `kept`; None if nothing is left of it."""
    found = []
    for part in way:
        inner = _kept(part, kept)
        if inner is None:
            return None
        found.append(inner)
    return tuple(found)


def _kept(part: Part, kept: Ranges) -> Part | None:
    match part:
        case Letter(ranges):
            both = letters.common(ranges, kept)
            return Letter(both) if both else None
        case Either(ways):
            found = tuple(each for way in ways if (each := mapped(way, kept)) is not None)
            return Either(found) if found else None
        case Times(inner, least, most):
            if (left := _kept(inner, kept)) is not None:
                return Times(left, least, most)
            return Either(((),)) if least == 0 else None
    return part


def cut(way: Way, room: int) -> Way | None:
    """The way for texts of at most `room` letters; it may take fewer texts than that. None if even
    its shortest text is longer."""
    spare = room - sum(map(_fewest, way))
    if spare < 0:
        return None
    found = []
    for part in way:
        short = _cut(part, spare)
        spare -= min(spare, _longest(short) - _fewest(part))
        found.append(short)
    return tuple(found)


def _cut(part: Part, spare: int) -> Part:
    """The part for texts of at most `spare` letters more than its shortest text."""
    match part:
        case Times(Letter() as inner, least, most):
            return Times(inner, least, min(most, least + spare))
        case Times(inner, 0, most):
            longest = _longest(inner)
            return Times(inner, 0, min(most, spare // longest) if 0 < longest < ENDLESS else 0)
        case Times(inner, least):
            return Times(_cut(inner, 0), least, least)
        case Either(ways):
            short = (cut(way, _fewest(part) + spare) for way in ways)
            return Either(tuple(each for each in short if each is not None))
    return part


def _fewest(part: Part) -> int:
    match part:
        case Letter():
            return 1
        case Either(ways):
            return min(sum(map(_fewest, way)) for way in ways)
        case Times(inner, least):
            return least * _fewest(inner)
    return 0


def _longest(part: Part) -> int:
    match part:
        case Letter():
            return 1
        case Either(ways):
            return max(sum(map(_longest, way)) for way in ways)
        case Times(inner, _, most):
            return min(ENDLESS, most * _longest(inner))
    return 0
