"""The parts that a pattern is read into. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from workers.engines.llamacpp.schema import letters
from workers.engines.llamacpp.schema.letters import Ranges

ENDLESS = 1 << 30
"""`Times.most` without a bound."""


class Unsaid(Exception):
    """The grammar cannot express the pattern, or nothing fits the pattern."""


@dataclass(frozen=True, slots=True)
class Letter:
    of: Ranges


@dataclass(frozen=True, slots=True)
class Edge:
    """``^`` or ``$``."""

    start: bool


@dataclass(frozen=True, slots=True)
class Ahead:
    """A look ahead: ``(?=…)`` if `wanted`, else ``(?!…)``. `of`: what it looks for. It is None for
    other parts without a length, which cannot be expressed: a look behind, the edge of a word."""

    of: Either | None
    wanted: bool


@dataclass(frozen=True, slots=True)
class Either:
    """One of several ways; each way is a sequence of parts."""

    ways: tuple[Way, ...]


@dataclass(frozen=True, slots=True)
class Times:
    part: Part
    least: int
    most: int


Part = Letter | Edge | Ahead | Either | Times
Way = tuple[Part, ...]
START, END = Edge(start=True), Edge(start=False)
ANYTHING = Times(Letter(letters.ALL), 0, ENDLESS)
