"""One run of all probes: models side by side, the probes of one model one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from deploy.compat.rows import ROWS, Row
from deploy.compat.table import Cell, Table
from deploy.compat.target import MISSHAPEN, Target, Unmet, brief
from deploy.compat.transport import Away

AT_ONCE = 2
"""Models that are probed at the same time: they may share one machine. Each of them mostly has one
request in flight."""
GIVE_UP = 2
"""Probes in a row without an answer, after which a model is not asked any more."""


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
    """Fills `table`. `targets`: by column."""

    def __init__(self, table: Table, targets: Mapping[str, Target]) -> None:
        self.table = table
        self._targets = targets
        self._room = asyncio.Semaphore(AT_ONCE)
        self._filled: asyncio.Queue[tuple[str, str] | None] = asyncio.Queue()

    async def fill(self) -> Table:
        """Ask everybody everything."""
        try:
            async with asyncio.TaskGroup() as group:
                for column in self._targets:
                    group.create_task(self._column(column))
            await self._whole()
        finally:
            self._filled.put_nowait(None)
        return self.table

    async def cells(self) -> AsyncIterator[tuple[str, str]]:
        """(row, column) as they are filled, until all are or the run was given up."""
        while (place := await self._filled.get()) is not None:
            yield place

    async def _column(self, column: str) -> None:
        late = 0
        async with self._room:
            for row in ROWS:
                if row.whole:
                    continue
                if late >= GIVE_UP:
                    cell = Cell("no", f"not asked: {late} probes before it had no answer in time")
                else:
                    cell = await examine(row, self._targets[column])
                    late = late + 1 if cell.late else 0
                self._put(row, column, cell)

    async def _whole(self) -> None:
        """Of the fabric: asked once, for everybody."""
        for row in ROWS:
            if row.whole and self._targets:
                cell = await examine(row, next(iter(self._targets.values())))
                for column in self._targets:
                    self._put(row, column, cell)

    def _put(self, row: Row, column: str, cell: Cell) -> None:
        self.table.cells[row.id, column] = cell
        self._filled.put_nowait((row.id, column))
