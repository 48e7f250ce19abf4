"""``headrace usage``: what workers and providers served, by any combination of day, account, key,
model and so on, as a table, as CSV for spreadsheets, or as JSON.

Amounts are decimals of the currency for people and in CSV, and whole micro-units in JSON.
"""

from __future__ import annotations

import contextlib
import csv
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from rich.text import Text

from deploy.configure import Unreachable
from deploy.credits import Accounts, NoJournal, Wrong
from deploy.money import decimal
from deploy.status import console, table
from deploy.survey import connected
from ingress import usage_report
from schemas import tally
from schemas.bus import BusError
from schemas.tally import SUMMED, Question, Tally

T = TypeVar("T")

_ALWAYS = ("requests", "prompt", "completion", "slot_seconds", "cost")
"""Columns of the table that stand there even if all of their numbers are 0."""
_MONEY = ("cost", "uncharged")
_FORMULA = tuple("=+-@\t\r")
"""What begins a formula in a spreadsheet."""


def question(by: str, since: str, until: str, account: str, key: str) -> Question:
    """Raises Wrong, which names the option."""
    groups, first = (
        _read("--by", lambda: tally.grouped(by)),
        _read("--since", lambda: tally.moment(since)),
    )
    end = _read("--until", lambda: tally.moment(until, end=True)) if until else tally.FOREVER
    try:
        return Question(groups, first, end, account, key)
    except ValueError:
        raise Wrong(f"--until: {until} is not after --since {since}") from None


def _read(option: str, read: Callable[[], T]) -> T:
    try:
        return read()
    except ValueError as fault:
        raise Wrong(f"{option}: {fault}") from None


async def show(accounts: Accounts, asked: Question, *, as_csv: bool, as_json: bool) -> None:
    if as_csv and as_json:
        raise Wrong("--csv or --json: give one of them")
    found = Tally(asked)
    with contextlib.suppress(NoJournal):  # the usage of workers is shown all the same
        async with accounts.ledger() as ledger:
            async for each in ledger.purchases(since=asked.since, account=asked.account):
                found.bought(asdict(each))
    await _count_served(accounts, found)
    if as_json:
        accounts.print_json(found.rows(), total=found.total())
    elif as_csv:
        _print_csv(found, accounts.currency)
    else:
        _print_table(found, accounts.currency)


async def _count_served(accounts: Accounts, found: Tally) -> None:
    """What workers served; said on stderr if it cannot be read."""
    try:
        async with connected(accounts.fabric, "headrace-usage") as bus:
            await usage_report.count(bus, found)
    except (BusError, Unreachable) as fault:
        print(f"what workers served cannot be read here: {fault}", file=sys.stderr)


def _print_table(found: Tally, currency: str) -> None:
    by, rows, total = found.question.by, found.rows(), found.total()
    names = [name for name in SUMMED if name in _ALWAYS or total[name]]
    titles = {"cost": currency, "uncharged": "not charged"}
    columns = [*by, *(f">{titles.get(name, name.replace('_', ' '))}" for name in names)]
    cells: list[list[Text | str]] = [
        [*(row[name] or "–" for name in by), *_numbers(row, names)] for row in rows
    ]
    cells.append([Text("total", "bold"), *[""] * (len(by) - 1), *_numbers(total, names)])
    console().print(table(columns, cells))


def _print_csv(found: Tally, currency: str) -> None:
    """Without a line of totals, which would be summed up with the others."""
    by, out = found.question.by, csv.writer(sys.stdout, lineterminator="\n")
    out.writerow([*by, *SUMMED, "currency"])
    for row in found.rows():
        out.writerow([*(_plain(row[name]) for name in by), *_numbers(row, SUMMED), currency])


def _numbers(row: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    return [decimal(row[name]) if name in _MONEY else _number(row[name]) for name in names]


def _number(found: float) -> str:
    return str(found) if isinstance(found, int) else f"{found:.3f}".rstrip("0").rstrip(".")


def _plain(text: str) -> str:
    """`text`, so that no spreadsheet takes it for a formula: names come from clients."""
    return f"'{text}" if text.startswith(_FORMULA) else text
