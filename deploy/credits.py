"""``headrace credits`` and ``headrace usage``: the books, for people and for programs.

Amounts are decimals of the currency for people, and whole micro-units (a millionth of it) in JSON.
"""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import orjson
from rich import box
from rich.table import Table

from deploy import configure, home
from deploy.status import console
from deploy.survey import Unreachable, connected
from fallback.credits.entries import MICRO
from fallback.credits.ledger import Balance, Entry, Insufficient, Ledger
from fallback.node import ledger_login
from schemas import subjects
from schemas import usage as usages
from schemas.bus import Bus, BusError, NotFound
from schemas.jetstream import reading, streams
from schemas.settings import Nats, SettingsError, load
from schemas.usage import GROUPS, summed

PLACES = 6
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Wrong(ValueError):
    """The command line cannot be understood; the message says what would be right."""


class NoBooks(Wrong):
    """There are none in the account of this login."""


class Accounts:
    """The books at `login`, and the currency that they are in. `fabric`: where ingresses count what
    workers served. Without `founds` the books must be there: a login of the fabric's account would
    found others, which no fallback reads."""

    def __init__(
        self, login: Nats, currency: str, fabric: Nats | None = None, *, founds: bool = True
    ) -> None:
        self._login = login
        self._founds = founds
        self._currency = currency
        self._fabric = fabric

    @contextlib.asynccontextmanager
    async def _ledger(self) -> AsyncIterator[Ledger]:
        async with connected(self._login, "headrace-credits") as bus:
            if not self._founds:
                await _there(bus, self._login)
            ledger = Ledger(bus, replicas=self._login.replicas)
            await ledger.open()
            try:
                yield ledger
            finally:
                await ledger.close()

    async def grant(self, account: str, amount: int, note: str) -> None:
        async with self._ledger() as ledger:
            try:
                balance = await ledger.grant(account, amount, note)
            except Insufficient as fault:
                has = f"{decimal(fault.available)} {self._currency}"
                raise Wrong(f"{account} has {has}: no more can be taken back") from None
        print(f"{account}: {decimal(balance)} {self._currency}")

    async def show(self, account: str, as_json: bool) -> None:
        """One account, or all of them."""
        async with self._ledger() as ledger:
            found = await ledger.balances()
        if account:
            found = {account: found.get(account, Balance(0, 0))}
        if as_json:
            rows = [{"account": name, **asdict(each)} for name, each in found.items()]
            return self._print_json(rows)
        table = _table("account", f">available {self._currency}", ">reserved")
        for name, each in found.items():
            table.add_row(name, decimal(each.available), decimal(each.reserved))
        return console().print(table)

    async def history(self, account: str, limit: int, as_json: bool) -> None:
        """The newest so many entries; of all accounts without one."""
        async with self._ledger() as ledger:
            found = [entry async for entry in ledger.history(account, limit=limit)]
        if as_json:
            return self._print_json([asdict(entry) for entry in found])
        table = _table("time (UTC)", "account", "what", ">change", ">balance", "job", "about")
        for entry in found:
            table.add_row(*_row(entry))
        return console().print(table)

    async def usage(self, since: float, by: list[str], as_json: bool) -> None:
        found: list[dict[str, Any]] = []
        with contextlib.suppress(NoBooks):  # of workers there is something to tell all the same
            async with self._ledger() as ledger:
                found = [asdict(each) async for each in ledger.purchases(since=since)]
        rows = summed([*found, *await self._served(since)], by)
        if as_json:
            return self._print_json(rows)
        table = _table(*by, ">requests", ">prompt", ">completion", ">images", f">{self._currency}")
        for row in rows:
            counts = ("requests", "prompt", "completion", "images")
            cells = [*(row[name] for name in by), *(str(row[name]) for name in counts)]
            table.add_row(*cells, decimal(row["cost"]))
        return console().print(table)

    async def _served(self, since: float) -> list[dict[str, Any]]:
        """What workers served; said on stderr if it cannot be read."""
        if self._fabric is None:
            return []
        try:
            async with connected(self._fabric, "headrace-usage") as bus:
                messages = reading.read(bus, subjects.USAGE_STREAM, since=since)
                found = [row async for message in messages for row in usages.rows(message)]
                return [usages.record(row) for row in found]
        except (BusError, Unreachable) as fault:
            print(f"what workers served cannot be read here: {fault}", file=sys.stderr)
            return []

    def _print_json(self, rows: list[dict[str, Any]]) -> None:
        said = {"currency": self._currency, "unit": "micro", "data": rows}
        print(orjson.dumps(said).decode())


def accounts(data: Path, config: Path | None, nats: str | None) -> Accounts:
    """The books as the fallback finds them: --nats, else the settings, else the broker that runs on
    `data`. Raises SettingsError, or Unreachable if there is none."""
    settings = load(config, {"nats": configure.split_login(nats)} if nats else {})
    currency = settings.fallback.currency
    if nats:
        return Accounts(settings.nats, currency, settings.nats, founds=False)
    ledger = settings.ledger
    if ledger.url or ledger.user or "url" in settings.nats.model_fields_set:
        return Accounts(ledger_login(settings), currency, settings.nats)
    found = home.login(data, "ledger")
    if found is None:
        raise Unreachable(f"nothing runs on {data}: start it with 'headrace up', or name --nats")
    fabric = Nats.model_validate(home.login(data, "admin"))
    return Accounts(Nats.model_validate(found), currency, fabric)


async def _there(bus: Bus, login: Nats) -> None:
    """Raises NoBooks where there are none for `login`."""
    try:
        await streams.info(bus, subjects.CREDITS_STREAM)
    except NotFound:
        raise NoBooks(
            f"there are no books at {login.shown} for the login {login.user!r}: the first fallback "
            "makes them, in the account of its section [ledger]. Name a login of that account (the "
            "one that 'headrace up' made is 'ledger')"
        ) from None


def micro(text: str) -> int:
    """Micro-units of a decimal such as ``12.5``. Raises Wrong."""
    try:
        amount = Decimal(text) * MICRO
        whole = int(amount)
    except (InvalidOperation, ValueError, OverflowError):
        raise Wrong(f"{text!r} is no amount such as 12.50") from None
    if whole != amount or abs(whole) > 10**15:
        raise Wrong(f"{text!r} is no amount of at most a billion with up to {PLACES} decimals")
    return whole


def decimal(amount: int) -> str:
    """``12.50``, ``0.000001``: two decimals, or as many as it has."""
    whole, rest = divmod(abs(amount), MICRO)
    digits = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{'-' if amount < 0 else ''}{whole}.{digits}"


def since(text: str, now: float | None = None) -> float:
    """Unix seconds of ``7d``, ``12h`` ago, or of a day ``2026-11-01`` (UTC). Raises Wrong."""
    if found := re.fullmatch(r"(\d{1,6})([smhdw])", text):
        return (time.time() if now is None else now) - int(found[1]) * _UNITS[found[2]]
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise Wrong(f"--since: {text!r} is neither 7d, 12h, 30m nor a day as 2026-11-01") from None


def groups(text: str) -> list[str]:
    """What ``--by`` names. Raises Wrong."""
    found = [name.strip() for name in text.split(",") if name.strip()]
    if not found or any(name not in GROUPS for name in found) or len(set(found)) < len(found):
        raise Wrong(f"--by: {text!r} is no list of {', '.join(GROUPS)}")
    return found


def _row(entry: Entry) -> Iterable[str]:
    usage = entry.usage
    about = f"{usage.provider}/{usage.provider_model}" if usage else entry.note
    stamp = datetime.fromtimestamp(entry.at, UTC).isoformat(" ", "seconds").removesuffix("+00:00")
    change = f"{'+' if entry.change >= 0 else ''}{decimal(entry.change)}"
    return stamp, entry.account, entry.kind, change, decimal(entry.balance), entry.job, about


def _table(*columns: str) -> Table:
    """Columns that begin with ``>`` hold numbers."""
    table = Table(box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column.lstrip(">"), justify="right" if column[0] == ">" else "left")
    return table


KNOWN = (Wrong, Unreachable, SettingsError)
"""Faults whose message is all that the user needs."""
