"""What may go wrong with the broker.

::

    BusError
    ├── BusRefused, BusFull
    └── ApiError
        └── NotFound
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class BusError(Exception):
    """The broker is away, or it refused; the message says which."""


class BusRefused(BusError):
    """The broker does not know this login."""


class BusFull(BusError):
    """The broker is away and the outbound buffer is full."""


class ApiError(BusError):
    """JetStream refused a request. `code`: its own number of the reason."""

    def __init__(self, subject: str, error: Mapping[str, Any]) -> None:
        super().__init__(f"{subject}: {error.get('description', 'refused')}")
        self.code = int(error.get("err_code", 0))


class NotFound(ApiError):
    """There is no such stream, consumer or message."""
