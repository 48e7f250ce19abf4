"""Keys that exist already, out of a table of comma-separated values.

The first row names the columns: ``name`` and ``secret``, and any of ``account``, ``note``,
``scopes`` and ``models`` (several in one cell, with spaces between), ``expires``, ``local``,
``weight``, ``lane``, ``lenient``, and the limits by their names. Without such a row the columns are
name, secret, account, note. No message has a secret.
"""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, TextIO

from deploy.configure import CommandFailed
from ingress.keys import changes
from ingress.keys import secret as secrets
from ingress.keys.store import KeyStore
from schemas.errors import HeadraceError
from schemas.keys import KeyPolicy, Limits

COLUMNS = ("name", "secret", "account", "note")
MOST = 100_000
"""Keys in one table."""
_LISTS = ("scopes", "models")
_KNOWN = {"name", "secret", *KeyPolicy.model_fields, *Limits.model_fields} - {"limits"}


@dataclass(frozen=True, slots=True)
class Row:
    """One key to be. `line`: its place in the table."""

    line: int
    name: str
    secret: str
    policy: dict[str, Any]


def read(source: TextIO) -> list[Row]:
    """Raises CommandFailed that names the line."""
    found: list[Row] = []
    columns: tuple[str, ...] = COLUMNS
    reader = csv.reader(source, strict=True)
    try:
        for cells in _filled(reader):
            if not found and columns is COLUMNS and {"name", "secret"} <= set(cells):
                columns = _named(cells)
                continue
            found.append(_row(reader.line_num, columns, cells))
            if len(found) > MOST:
                raise CommandFailed(f"more than {MOST} keys: take them in several parts")
    except (csv.Error, UnicodeDecodeError):
        raise CommandFailed(f"line {reader.line_num}: no comma-separated text") from None
    _check_apart(found)
    return found


async def store(store: KeyStore, rows: list[Row], taken: Collection[str]) -> tuple[int, int]:
    """Write the keys. Returns how many were written, and how many were there with this secret.
    Raises CommandFailed before any was written, or if others write the same keys meanwhile."""
    owners = {digest.digest: key.name for key in await store.keys() for digest in key.secrets}
    fresh = []
    for row in rows:
        owner = owners.get(secrets.digest(store.pepper, row.secret).hex())
        if owner not in (None, row.name):
            raise CommandFailed(f"line {row.line}: its secret is that of the key {owner!r}")
        if owner is None:
            _checked(row, taken, {*owners.values()})
            fresh.append(row)
    for row in fresh:
        with _at(row):
            await changes.create(store, row.name, row.policy, row.secret, taken)
    return len(fresh), len(rows) - len(fresh)


@contextlib.contextmanager
def _at(row: Row) -> Iterator[None]:
    """Names the line of a fault."""
    try:
        yield
    except HeadraceError as fault:
        raise CommandFailed(f"line {row.line}: {fault.message}") from None


def _checked(row: Row, taken: Collection[str], live: Collection[str]) -> None:
    with _at(row):
        changes.check(row.name, row.policy, row.secret, taken)
    if row.name in live:
        raise CommandFailed(f"line {row.line}: there is a key {row.name!r} already")


def _filled(reader: Iterator[list[str]]) -> Iterator[list[str]]:
    for cells in reader:
        stripped = [cell.strip() for cell in cells]
        if any(stripped):
            yield stripped


def _named(cells: list[str]) -> tuple[str, ...]:
    if unknown := [cell for cell in cells if cell not in _KNOWN]:
        raise CommandFailed(f"there is no column {unknown[0]!r}: {', '.join(sorted(_KNOWN))}")
    if len(set(cells)) < len(cells):
        raise CommandFailed("a column is named twice")
    return tuple(cells)


def _row(line: int, columns: tuple[str, ...], cells: list[str]) -> Row:
    if len(cells) > len(columns):
        raise CommandFailed(f"line {line}: {len(cells)} cells, but {len(columns)} columns")
    said: dict[str, Any] = {name: cell for name, cell in zip(columns, cells, strict=False) if cell}
    if not {"name", "secret"} <= said.keys():
        raise CommandFailed(f"line {line}: a key has a name and a secret")
    name, secret = said.pop("name"), said.pop("secret")
    for each in said.keys() & set(_LISTS):
        said[each] = said[each].split()
    limits = {each: said.pop(each) for each in said.keys() & Limits.model_fields.keys()}
    return Row(line, name, secret, {**said, **({"limits": limits} if limits else {})})


def _check_apart(rows: list[Row]) -> None:
    names, known = dict[str, int](), dict[str, int]()
    for row in rows:
        for what, seen in ((row.name, names), (row.secret, known)):
            if what in seen:
                word = "name" if seen is names else "secret"
                raise CommandFailed(f"lines {seen[what]} and {row.line} have the same {word}")
            seen[what] = row.line
