"""What one look ahead looks for. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from workers.engines.llamacpp.schema import letters
from workers.engines.llamacpp.schema.letters import Ranges
from workers.engines.llamacpp.schema.parts import (
    END,
    ENDLESS,
    START,
    Ahead,
    Either,
    Letter,
    Part,
    Times,
    Unsaid,
    Way,
)

_MOST_LETTERS = 64
_MOST_WAYS = 16


class Run(NamedTuple):
    """A letter of these, `least` to `most` times."""

    of: Ranges
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Look:
    """What a look ahead looks for: `lead` (None: nothing), then `letters` one after the other, then
    `behind` up to the end of the text (None: anything). If it looks for what must not come,
    `behind` is empty, or it is the whole look."""

    lead: Run | None
    letters: tuple[Ranges, ...]
    behind: Run | None


def looks_of(ahead: Ahead) -> list[Look]:
    """One of them has to be found, or none must be. Raises Unsaid."""
    assert ahead.of is not None
    return [_look(way, ahead.wanted) for way in _flat(ahead.of)]


def _flat(found: Either) -> list[Way]:
    """The ways, with each group inside them written out as ways of its own."""
    flat: list[Way] = []
    for way in found.ways:
        made: list[Way] = [()]
        for part in way:
            inner = _flat(part) if isinstance(part, Either) else [(part,)]
            made = [(*before, *each) for before in made for each in inner]
        flat += made
        if len(flat) > _MOST_WAYS:
            raise Unsaid("too many ways")
    return flat


def _look(way: Way, wanted: bool) -> Look:
    parts = [part for part in way if part != START]
    ends = bool(parts) and parts[-1] == END
    parts = parts[:-1] if ends else parts
    lead = _run(parts[0]) if len(parts) > 1 else None
    parts = parts if lead is None else parts[1:]
    behind = Run(letters.ALL, 0, 0) if ends else None
    if parts and (last := _run(parts[-1])) is not None:
        if ends and not wanted:  # only a single run up to the end can be turned around
            if len(parts) > 1 or lead or last.least > 1 or last.most < ENDLESS:
                raise Unsaid("it may end in many ways")
            return Look(None, (), last)
        # One more than is taken, so that too many are refused below.
        parts = [*parts[:-1], *[Letter(last.of)] * min(last.least, _MOST_LETTERS + 1)]
        behind = Run(last.of, 0, last.most - last.least) if ends else None
    found = tuple(each for part in parts for each in _fixed(part, wanted))
    if len(found) > _MOST_LETTERS:
        raise Unsaid("too long")
    return Look(lead, found, behind)


def _run(part: Part) -> Run | None:
    """The part as a Run if it is a letter that may come more or less often, else None."""
    if isinstance(part, Times) and isinstance(part.part, Letter) and part.least != part.most:
        return Run(part.part.of, part.least, part.most)
    return None


def _fixed(part: Part, wanted: bool) -> tuple[Ranges, ...]:
    """The letters of a part. If it has to come and may repeat, it comes as rarely as it may."""
    match part:
        case Letter(ranges):
            return (ranges,)
        case Times(inner, least, most) if wanted or least == most:
            ways = _flat(inner) if isinstance(inner, Either) else [(inner,)]
            if len(ways) == 1 and least <= _MOST_LETTERS:
                return tuple(each for p in ways[0] for each in _fixed(p, wanted)) * least
    raise Unsaid("not of letters")
