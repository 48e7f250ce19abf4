"""One run of all probes: models side by side, the probes of one model one after the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from deploy.compat.probes import COMMON, ROWS
from deploy.compat.rows import Row
from deploy.compat.target import MISSHAPEN, Target, Unmet, Word, brief
from deploy.compat.transport import Away

CELL = "headrace.compat.cell"
AT_ONCE = 2
"""Models that are probed at the same time; few, as they may share one machine. Each mostly has one
request in flight."""
GIVE_UP = 2
"""Probes in a row without an answer, after which a model is not asked any more."""


@dataclass(frozen=True, slots=True)
class Cell:
    """`reason`: what the probe saw, also for a yes. `late`: no answer came in time."""

    answer: Word
    reason: str
    late: bool = False

    def document(self) -> dict[str, str]:
        return {"answer": self.answer, "reason": self.reason}


async def examine(row: Row, target: Target) -> Cell:
    try:
        async with asyncio.timeout(row.patience):
            return Cell("yes", await row.probe(target))
    except Unmet as unmet:
        return Cell(unmet.word, unmet.reason)
    except TimeoutError:
        return Cell("no", f"no answer within {row.patience:g} s", late=True)
    except Away as fault:
        return Cell("no", brief(str(fault)))
    except MISSHAPEN as fault:
        return Cell("no", brief(f"the answer is not as documented: {type(fault).__name__} {fault}"))


class Run:
    """Probes each of `targets`, by model, for each row. `cells`: the results so far, by row and
    model."""

    def __init__(self, targets: Mapping[str, Target]) -> None:
        self.cells: dict[tuple[str, str], Cell] = {}
        self._targets = targets
        self._created = int(time.time())
        self._room = asyncio.Semaphore(AT_ONCE)
        self._events: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

    async def fill(self) -> dict[str, Any]:
        """Probe all rows of all models; returns the table."""
        try:
            async with asyncio.TaskGroup() as group:
                for model, target in self._targets.items():
                    group.create_task(self._ask(model, target))
            for row in ROWS:
                if row.whole and self._targets:
                    # Any model will do: the row is about the fabric.
                    cell = await examine(row, next(iter(self._targets.values())))
                    for model in self._targets:
                        self._put(row, model, cell)
        finally:
            self._events.put_nowait(None)  # ends `events`, also of a run that was cancelled
        return self._document()

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """Each cell as it is filled, until all are filled or the run ends early."""
        while (event := await self._events.get()) is not None:
            yield event

    async def _ask(self, model: str, target: Target) -> None:
        late = 0
        async with self._room:
            for row in ROWS:
                if row.whole:  # `fill` probes it once
                    continue
                if late >= GIVE_UP:
                    cell = Cell("no", f"not asked: {late} probes before it had no answer in time")
                else:
                    cell = await examine(row, target)
                    late = late + 1 if cell.late else 0
                self._put(row, model, cell)

    def _put(self, row: Row, model: str, cell: Cell) -> None:
        self.cells[row.id, model] = cell
        done, of = len(self.cells), len(self._targets) * len(ROWS)
        place = {"object": CELL, "row": row.id, "title": row.title, "model": model}
        self._events.put_nowait({**place, **cell.document(), "done": done, "of": of})

    def _document(self) -> dict[str, Any]:
        models = [
            {"id": model, "engines": target.facts.engines, "nodes": target.facts.nodes}
            for model, target in self._targets.items()
        ]
        return {
            "object": "headrace.compat",
            "created": self._created,
            "version": metadata.version("headrace"),
            "models": models,
            "rows": [self._row(row) for row in ROWS],
        }

    def _row(self, row: Row) -> dict[str, Any]:
        return {
            "id": row.id,
            "title": row.title,
            "proof": row.proof,
            "ours": row not in COMMON,
            "cells": {model: self.cells[row.id, model].document() for model in self._targets},
        }
