"""Fills ``{word}`` in a command from the config; all other braces stay as they are.

Engines take JSON as arguments (``{"enable_thinking": false}``), so only a single word in braces is
a placeholder.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_WORD = re.compile(r"\{([a-z_]+)\}")


def words(texts: Iterable[str]) -> set[str]:
    """The placeholders in `texts`, without braces."""
    return {word for text in texts for word in _WORD.findall(text)}


def fill(text: str, values: Mapping[str, str]) -> str:
    """Raises KeyError for a placeholder that has no value."""
    return _WORD.sub(lambda found: values[found.group(1)], text)
