"""Freed memory goes back to the system."""

from __future__ import annotations

import asyncio

import pytest

from ingress.http import heap
from ingress.http.heap import ENOUGH, Heap
from tests.unit import fakes


async def test_it_is_looked_for_once_after_enough_was_freed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heap, "PAUSE", 0.0)
    made, looks = Heap(), asyncio.Queue[int]()
    monkeypatch.setattr(made, "_trim", looks.put_nowait)
    for _ in range(2):
        for size in (ENOUGH - 1, 1, ENOUGH):
            assert looks.empty()
            made.freed(size)
        async with asyncio.timeout(fakes.PATIENCE):
            await looks.get()
        assert looks.empty()
