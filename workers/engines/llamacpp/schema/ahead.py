"""Rewrites a pattern without its looks ahead, because the grammar has none. Pure.

The part after a look is narrowed until it fits the look. The result may take less than the pattern:
a letter that may stand anywhere is written at the first few places only. A look that cannot be
written in this way is left out, and the ingress checks the answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from workers.engines.llamacpp.schema import letters
from workers.engines.llamacpp.schema.derive import cut, heads, is_empty, mapped
from workers.engines.llamacpp.schema.letters import Ranges
from workers.engines.llamacpp.schema.look import Look, Run, looks_of
from workers.engines.llamacpp.schema.parts import (
    ANYTHING,
    END,
    ENDLESS,
    Ahead,
    Either,
    Letter,
    Part,
    Times,
    Unsaid,
    Way,
)

_PLACES = 3
"""Places at which a letter is written that may stand anywhere."""
_FAR = 5
"""Most letters before it, beyond those that the look itself wants."""
_MOST_WAYS = 64


def without_looks(found: Either) -> Either:
    """Raises Unsaid if nothing fits."""
    return Either(tuple(way for each in found.ways for way in _plain(each)))


def _plain(way: Way) -> list[Way]:
    """The ways that replace `way`. They are built from its end, as a look concerns what follows."""
    if not any(map(_looks, way)):
        return [way]
    found: list[Way] = []
    for each in _spliced(way):
        rests: list[Way] = [() if END in each else (ANYTHING, END)]
        for part in reversed(each):
            if isinstance(part, Ahead):
                rests = _looked(part, rests)
            else:
                rests = [(_blind(part), *rest) for rest in rests]
        found += rests
    if not 0 < len(found) <= _MOST_WAYS:
        raise Unsaid("what is looked for fits in no way, or in too many")
    return found


def _looks(part: Part) -> bool:
    match part:
        case Ahead():
            return True
        case Either(ways):
            return any(_looks(each) for way in ways for each in way)
        case Times(inner):
            return _looks(inner)
    return False


def _spliced(way: Way) -> list[Way]:
    """The ways, with each group that has looks written out: such a look also concerns what follows
    the group."""
    found: list[Way] = [()]
    for part in way:
        ways = [part.ways] if isinstance(part, Either) and _looks(part) else [((part,),)]
        inner = [each for one in ways for way in one for each in _spliced_again(way)]
        found = [(*before, *each) for before in found for each in inner]
        if len(found) > _MOST_WAYS:
            raise Unsaid("too many ways")
    return found


def _spliced_again(way: Way) -> list[Way]:
    return _spliced(way) if any(isinstance(part, Either) for part in way) else [way]


def _blind(part: Part) -> Part:
    """A repeated group, without its looks."""
    match part:
        case Either(ways):
            kept = (tuple(_blind(p) for p in way if not isinstance(p, Ahead)) for way in ways)
            return Either(tuple(kept))
        case Times(inner, least, most) if _looks(inner):
            return Times(_blind(inner), least, most)
    return part


def _looked(ahead: Ahead, rests: list[Way]) -> list[Way]:
    """Those of `rests` that fit the look, narrowed if needed."""
    try:
        looks = looks_of(ahead) if ahead.of is not None else []
        if ahead.wanted and looks:
            return [each for rest in rests for look in looks for each in _having(look, rest)]
        for look in looks:
            rests = [each for rest in rests for each in _lacking(look, rest)]
    except Unsaid:  # the look is left out: the ingress checks it
        pass
    return rests


# What has to come.


def _having(look: Look, rest: Way) -> Iterator[Way]:
    """The ways that `rest` takes and that fit the look."""
    if look.lead is not None and look.behind is not None and look.behind.most == 0:
        return _ending(look.letters, rest)
    return islice(_sought(look, rest, 0), _PLACES)


def _sought(look: Look, rest: Way, skipped: int) -> Iterator[Way]:
    lead = look.lead
    if lead is None or skipped >= lead.least:
        yield from _begins(look, rest)
    if lead is not None and skipped < min(lead.most, lead.least + _FAR):
        for ranges, left in heads(rest):
            if both := letters.common(ranges, lead.of):
                for way in _sought(look, left, skipped + 1):
                    yield (Letter(both), *way)


def _begins(look: Look, rest: Way, at: int = 0) -> Iterator[Way]:
    """The ways of `rest` that begin with the look's letters; the first `at` of them are written."""
    if at < len(look.letters):
        for ranges, left in heads(rest):
            if both := letters.common(ranges, look.letters[at]):
                for way in _begins(look, left, at + 1):
                    yield (Letter(both), *way)
    elif look.behind is None:
        yield rest
    else:
        short = cut(rest, look.behind.most)
        inside = None if short is None else mapped(short, look.behind.of)
        yield from () if inside is None else (inside,)


def _ending(word: tuple[Ranges, ...], rest: Way) -> Iterator[Way]:
    """The ways whose last letters are these."""
    if not word:
        yield rest
        return
    for *before, last, end in _ending_in(word[-1], rest):
        for way in _ending(word[:-1], (*before, END)):
            yield (*way[:-1], last, end)


def _ending_in(kept: Ranges, rest: Way) -> Iterator[Way]:
    """The ways whose last letter is one of these. Raises Unsaid."""
    way = rest[:-1] if rest and rest[-1] == END else rest
    if not way:
        return
    *before, part = way
    match part:
        case Letter(ranges):
            least, most = 1, 1
        case Times(Letter(ranges), least, most):
            pass
        case _:
            raise Unsaid("its last letter is not known")
    if both := letters.common(ranges, kept):
        more = () if most == 1 else (Times(Letter(ranges), max(0, least - 1), most - 1),)
        yield (*before, *more, Letter(both), END)
    if least == 0 and before:
        yield from _ending_in(kept, (*before, END))


# What must not come.


def _lacking(look: Look, rest: Way) -> list[Way]:
    # It must not be of such letters alone, so one of the others has to come.
    if look.lead is None and look.behind is not None and look.behind.most:
        other = (letters.complement(look.behind.of),)
        return list(_having(Look(Run(letters.ALL, 0, ENDLESS), other, None), rest))
    if look.lead is None:
        return list(_begins_not(look, rest))
    if look.lead.least or look.lead.most < ENDLESS:
        raise Unsaid("not so far from here")
    if look.behind is not None:
        found = [*_ending_in(letters.complement(look.letters[-1]), rest)] if look.letters else []
        return [*found, (END,)] if is_empty(rest) else found
    if len(look.letters) == 1:
        left = mapped(rest, letters.complement(look.letters[0]))
        return [] if left is None else [left]
    match rest:
        case (Times(Letter(ranges), least, most), *end) if end in ([], [END]):
            return [(_units(look.letters, ranges, least, most), *end)]
    raise Unsaid("several letters that must not follow each other")


def _begins_not(look: Look, rest: Way, at: int = 0) -> Iterator[Way]:
    if at == len(look.letters):
        if look.behind is not None:  # it must not end here
            yield from ((Letter(ranges), *left) for ranges, left in heads(rest))
        return
    if is_empty(rest):
        yield (END,)
    for ranges, left in heads(rest):
        if other := letters.common(ranges, letters.complement(look.letters[at])):
            yield (Letter(other), *left)
        if both := letters.common(ranges, look.letters[at]):
            for way in _begins_not(look, left, at + 1):
                yield (Letter(both), *way)


def _units(word: tuple[Ranges, ...], ranges: Ranges, least: int, most: int) -> Part:
    """Letters among which the word does not stand: after each beginning of it comes a letter that
    is none of the word's."""
    others = letters.common(ranges, letters.complement(letters.union(*word)))
    first = letters.common(ranges, letters.complement(word[0]))
    begun = [Letter(letters.common(ranges, each)) for each in word]
    ways: list[Way] = [(Letter(first),)] if first else []
    for size in range(1, len(word)):
        if others and all(each.of for each in begun[:size]):
            ways.append((*begun[:size], Letter(others)))
    most = ENDLESS if most >= ENDLESS else most // len(word)
    if not ways or least > most:
        raise Unsaid("too short for it")
    return Times(Either(tuple(ways)), least, most)
