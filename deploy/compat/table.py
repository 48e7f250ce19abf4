"""The table itself: what is asked of whom, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from deploy.compat.rows import COMMON, ROWS, Row
from deploy.compat.target import Word

OBJECT = "headrace.compat"
CELL = "headrace.compat.cell"


@dataclass(frozen=True, slots=True)
class Cell:
    """`reason`: what was seen, also of a yes. `late`: nothing came in time."""

    answer: Word
    reason: str
    late: bool = False

    def document(self) -> dict[str, str]:
        return {"answer": self.answer, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Column:
    """One model; `engines`: the kinds that serve it, on `nodes`."""

    id: str
    engines: tuple[str, ...]
    nodes: tuple[str, ...]


@dataclass(slots=True)
class Table:
    """`created`: Unix seconds; `cells` by row and column."""

    version: str
    created: int
    columns: tuple[Column, ...]
    cells: dict[tuple[str, str], Cell] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        models = [
            {"id": each.id, "engines": list(each.engines), "nodes": list(each.nodes)}
            for each in self.columns
        ]
        return {
            "object": OBJECT,
            "created": self.created,
            "version": self.version,
            "models": models,
            "rows": [self._row(row) for row in ROWS],
        }

    def _row(self, row: Row) -> dict[str, Any]:
        cells = {each.id: self.cells[row.id, each.id].document() for each in self.columns}
        return {
            "id": row.id,
            "title": row.title,
            "proof": row.proof,
            "ours": row not in COMMON,
            "cells": cells,
        }

    def event(self, row: str, column: str) -> dict[str, Any]:
        """What a stream says of one cell."""
        found = self.cells[row, column].document()
        done, of = len(self.cells), len(self.columns) * len(ROWS)
        return {"object": CELL, "row": row, "model": column, **found, "done": done, "of": of}
