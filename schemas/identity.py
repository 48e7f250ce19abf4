"""What a process keeps of itself whose machine joined the fabric of another one: its keys, and the
name of its node. Pure: how they are kept is `deploy`'s."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

Ask = Callable[[bytes], Awaitable[bytes]]
"""Asks the hub to take new keys, and returns its answer. Raises BusError."""


class NotObeyed(Exception):
    """The hub, or this machine, does not let the order be obeyed. The message says why."""


class Identity(Protocol):
    @property
    def public(self) -> str:
        """The public half of its key."""

    def rotate(self, ask: Ask) -> Awaitable[None]:
        """Make new keys, have the hub take them, and keep them. Raises NotObeyed, BusError."""

    def rename(self, name: str) -> None:
        """Keep another name, by which the next start goes. Raises NotObeyed."""
