"""Answers may overtake each other: only the one to the last question counts. Pure."""

from __future__ import annotations

from collections.abc import Callable


class Newest:
    """The last one of several questions that may be under way at once."""

    def __init__(self) -> None:
        self._asked = 0

    def ask(self) -> Callable[[], bool]:
        """Begin a question. Returns what tells whether none was begun since."""
        self._asked = mine = self._asked + 1
        return lambda: mine == self._asked
