"""How long the texts and how large the numbers of other processes and of engines may be. Pure.

Each codec checks what enters by it, so that nobody behind it needs to: a text becomes a subject, a
header, a line of the log or the label of a metric, and a number is added to others. A sender keeps
to the same bounds, or its message is refused as a whole. The codecs of what comes with each request
compare with these numbers where they read it, as a call takes longer than to compare.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeGuard

TOKEN = 1024
"""Letters of what stands in a subject: a holder's name has the node's, whose letters may take
twelve each. The broker takes 4,096 for a whole line (``max_control_line``)."""
HOLDER = TOKEN + 1 + 256
"""Letters of a holder's name: its node's token, and its own."""
NAME = 256
"""Letters of a name: of a node, an engine, an account, a kind, a release."""
MODEL = 1024
"""Letters of a model's name, the most that a request may say."""
MODEL_TOKEN = 2048
"""Letters of a served model's name as a part of a subject."""
TEXT = 500
"""Letters of a text of an engine, as of the reason of a fault. `cut` cuts it once, where it came
from."""
MESSAGE = 1024
"""Letters of a message that has such a text within."""
TOKENS = 2**31 - 1
"""Tokens, or milliseconds, of one answer."""
WHOLE = 2**53 - 1
"""The largest number that every reader of JSON reads as it is written. Sums stay below it, too."""
SLOTS = 2**16
"""Requests that one engine works on at once."""

IN_SUBJECT = re.compile(r"[A-Za-z0-9_,~=-]+")
"""What may stand in a subject, between two dots."""
HOLDER_NAME = re.compile(rf"[A-Za-z0-9_,~=-]{{1,{TOKEN}}}\.[A-Za-z0-9_,~=-]{{1,{NAME}}}")
"""The name of a process that holds jobs: the token of its node, and its own."""


def is_text(value: object, most: int = NAME) -> TypeGuard[str]:
    return type(value) is str and len(value) <= most


def is_token(value: object, most: int = TOKEN) -> bool:
    return type(value) is str and len(value) <= most and IN_SUBJECT.fullmatch(value) is not None


def is_holder(value: object) -> bool:
    return type(value) is str and HOLDER_NAME.fullmatch(value) is not None


def is_number(value: object, most: int = WHOLE, least: int = 0) -> TypeGuard[int]:
    """A whole number. Not isinstance: True is an int, too."""
    return type(value) is int and least <= value <= most


def are_texts(values: Iterable[object], most: int = NAME) -> bool:
    return all(is_text(value, most) for value in values)


def cut(text: str, most: int = TEXT) -> str:
    """The beginning of a text of somebody else."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
