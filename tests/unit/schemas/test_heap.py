"""Freed memory goes back to the system."""

from __future__ import annotations

import pytest

from schemas import heap


def test_a_system_without_that_call_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    heap.trimmer()(0)
    monkeypatch.setattr("ctypes.CDLL", dict)
    heap.trimmer()(0)
