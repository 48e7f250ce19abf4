"""The compatibility matrix as it is filled: the events of ``GET /v1/compat``. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

from deploy.compat.run import CELL
from schemas.api import sse

MARKS: Mapping[str, tuple[str, str, str]] = {
    "yes": ("✓", "hr-good", "yes"),
    "partial": ("◐", "hr-warn", "in part"),
    "no": ("✗", "hr-bad", "no"),
}
"""By answer: a letter for it, a class of the page's style, and a word. Any other answer is shown
as it is."""


@dataclass(slots=True)
class Matrix:
    """`titles`: of the rows, by id. `cells`: (answer, reason) by row and
    model. `table`: the whole, once it came."""

    titles: dict[str, str] = field(default_factory=dict)
    models: list[str] = field(default_factory=list)
    cells: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    done: int = 0
    of: int = 0
    now: str = ""
    whole: bool = False
    _splitter: sse.Splitter = field(default_factory=sse.Splitter)

    def feed(self, chunk: bytes) -> None:
        """Raises sse.TooLong."""
        for event in sse.objects(self._splitter.feed(chunk)):
            if event.get("object") == CELL:
                self._cell(event)
            elif "rows" in event:
                self._finish(event)

    @property
    def share(self) -> float:
        """Of all probes, how many are done: 0 to 1."""
        return self.done / self.of if self.of else 0.0

    def counts(self) -> list[tuple[str, Mapping[str, int]]]:
        """By model: how many rows have each answer."""
        found: dict[str, dict[str, int]] = {model: {} for model in self.models}
        for (_, model), (answer, _) in self.cells.items():
            sums = found.setdefault(model, {})
            sums[answer] = sums.get(answer, 0) + 1
        return list(found.items())

    def lines(self) -> list[dict[str, Any]]:
        """Each row that has a cell: its title, and its cells by model."""
        return [
            {
                "title": self.titles[row],
                "cells": {model: self.cells.get((row, model)) for model in self.models},
            }
            for row in self.titles
        ]

    def _cell(self, event: Mapping[str, Any]) -> None:
        row, model = str(event.get("row")), str(event.get("model"))
        if model not in self.models:
            self.models.append(model)
        self.titles[row] = str(event.get("title", row))
        self.cells[row, model] = str(event.get("answer")), str(event.get("reason", ""))
        self.done, self.of = int(event.get("done", 0)), int(event.get("of", 0))
        self.now = f"{model}: {self.titles[row]}"

    def _finish(self, table: Mapping[str, Any]) -> None:
        self.whole = True
        self.titles.clear()  # in the order of the table from now on
        self.models = [str(model["id"]) for model in table.get("models", ())]
        for row in table["rows"]:
            self.titles[row["id"]] = row["title"]
            for model, cell in row["cells"].items():
                self.cells[row["id"], model] = cell["answer"], cell["reason"]
        self.done = self.of = len(self.cells)


def said(answer: str) -> tuple[str, str, str]:
    """A letter, a class and words for an answer."""
    return MARKS.get(answer, ("–", "hr-soft", answer.replace("_", " ")))


def summary(found: Matrix) -> str:
    """``smol: 40 work, 3 work in part, 7 do not work``, for each model."""
    told = []
    for model, sums in found.counts():
        yes, partial, no = (sums.get(answer, 0) for answer in ("yes", "partial", "no"))
        told.append(f"{model}: {yes} work, {partial} in part, {no} do not")
    return "; ".join(told) or "No model is served now."


def drawn(found: Matrix) -> str:
    """The matrix as HTML. What was seen is behind each mark, and opens by click and by keyboard; of
    one model alone it stands beside the mark."""
    alone = len(found.models) == 1
    names = "".join(f'<th scope="col">{escape(model)}</th>' for model in found.models)
    seen = '<th scope="col">what was seen</th>' if alone else ""
    rows = "".join(_row(line, found.models, alone) for line in found.lines())
    return (
        f'<table class="hr-plain hr-matrix"><thead><tr><th scope="col">what</th>{names}{seen}</tr>'
        f"</thead><tbody>{rows}</tbody></table>"
    )


def _row(line: Mapping[str, Any], models: list[str], alone: bool) -> str:
    cells = [line["cells"].get(model) for model in models]
    marks = "".join(f"<td>{_mark(cell, alone)}</td>" for cell in cells)
    seen = f"<td>{escape(cells[0][1]) if cells[0] else ''}</td>" if alone else ""
    return f'<tr><th scope="row">{escape(line["title"])}</th>{marks}{seen}</tr>'


def _mark(cell: tuple[str, str] | None, alone: bool) -> str:
    if cell is None:
        return '<span class="hr-soft">…</span>'
    letter, tone, words = said(cell[0])
    mark = f'<span class="{tone}">{letter} {words}</span>'
    if alone or not cell[1]:
        return mark
    return f"<details><summary>{mark}</summary>{escape(cell[1])}</details>"
