"""The rows of the table, and how a probe becomes a row."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from deploy.compat.target import Target
from schemas.api.endpoints import Endpoint

PATIENCE = 30.0
"""Seconds for all requests of one probe."""
SLOW = 180.0
"""The same for pictures and sounds, which are slow on an engine without a GPU."""

Probe = Callable[[Target], Awaitable[str]]
"""Returns what was seen. Raises Unmet."""


@dataclass(frozen=True, slots=True)
class Row:
    """`title`: for people; `proof`: what a "yes" rests on. `whole`: the row is about the fabric, so
    it is probed once and holds for all models."""

    id: str
    title: str
    probe: Probe
    proof: str
    patience: float = PATIENCE
    whole: bool = False


def row(
    title: str, proof: str, patience: float = PATIENCE, *, whole: bool = False
) -> Callable[[Probe], Row]:
    """Makes a row of a probe; its id is the probe's name."""
    return lambda probe: Row(probe.__name__, title, probe, proof, patience, whole)


def at(endpoint: Endpoint, proof: str, patience: float = PATIENCE) -> Callable[[Probe], Row]:
    """Makes a row of a probe that asks one endpoint; its id is the endpoint's word."""
    return lambda probe: Row(endpoint.word, f"POST {endpoint.path}", probe, proof, patience)
