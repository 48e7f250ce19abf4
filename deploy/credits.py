"""``headrace credits`` and ``headrace usage``: the journal of credits, for people and for programs.

Amounts are decimals of the currency for people, and whole micro-units (a millionth of it) in JSON.
"""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from deploy.configure import CommandFailed, Unreachable, Where
from deploy.status import console, stamp, table
from deploy.survey import connected
from fallback.credits import witness
from fallback.credits.entries import MICRO, Balance, Entry
from fallback.credits.faults import Insufficient, LedgerError
from fallback.credits.ledger import Ledger
from fallback.node import ledger_login
from schemas import subjects
from schemas import usage as usages
from schemas.bus import Bus, BusError, NotFound
from schemas.jetstream import reading, streams
from schemas.settings import Nats
from schemas.usage import GROUPS, summed

PLACES = 6
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Wrong(CommandFailed):
    """The command line cannot be understood; the message says what would be right."""


class NoJournal(Wrong):
    """The account of this login has no journal of credits."""


@dataclass(frozen=True, slots=True)
class Accounts:
    """The journal at `login`, with amounts in `currency`. `fabric`: the login of the account where
    ingresses count what workers served. `founds`: make a journal if there is none. That must not
    happen with a login of the fabric's account, as no fallback reads a journal there."""

    login: Nats
    fabric: Nats
    currency: str
    founds: bool = True

    @contextlib.asynccontextmanager
    async def _ledger(self) -> AsyncIterator[Ledger]:
        async with connected(self.login, "headrace-credits") as bus:
            if not self.founds:
                await _require_journal(bus, self.login)
            await witness.check(bus, self.login.replicas)  # makes the journal if there is none
            ledger = Ledger(bus, replicas=self.login.replicas)
            try:
                await ledger.open()
                yield ledger
            except LedgerError as fault:
                raise CommandFailed(str(fault)) from None
            finally:
                await ledger.close()

    async def grant(self, account: str, amount: int, note: str) -> None:
        async with self._ledger() as ledger:
            try:
                balance = await ledger.grant(account, amount, note)
            except Insufficient as fault:
                has = f"{decimal(fault.available)} {self.currency}"
                raise Wrong(f"{account} has {has}: no more can be taken back") from None
        print(f"{account}: {decimal(balance)} {self.currency}")

    async def accept(self) -> None:
        """Go on with a journal that lost its end."""
        async with connected(self.login, "headrace-credits") as bus:
            ends, seen = await witness.accept(bus)
        lost = (
            f"; entries {ends + 1} to {seen} are lost" if ends < seen else ", and nothing is lost"
        )
        print(f"the journal ends at entry {ends}{lost}")

    async def show(self, account: str, as_json: bool) -> None:
        """One account, or all of them."""
        async with self._ledger() as ledger:
            found = await ledger.balances()
        if account:
            found = {account: found.get(account, Balance(0, 0))}
        if as_json:
            self._print_json({"account": name, **asdict(each)} for name, each in found.items())
        else:
            columns = ("account", f">available {self.currency}", ">reserved")
            rows = ((n, decimal(has.available), decimal(has.reserved)) for n, has in found.items())
            console().print(table(columns, rows))

    async def history(self, account: str, limit: int, as_json: bool) -> None:
        """The newest entries of one account, or of all."""
        async with self._ledger() as ledger:
            found = [entry async for entry in ledger.history(account, limit=limit)]
        if as_json:
            self._print_json(asdict(entry) for entry in found)
        else:
            columns = ("time (UTC)", "account", "what", ">change", ">balance", "job", "about")
            console().print(table(columns, map(_row, found)))

    async def usage(self, since: float, by: list[str], as_json: bool) -> None:
        found: list[dict[str, Any]] = []
        with contextlib.suppress(NoJournal):  # the usage of workers is shown all the same
            async with self._ledger() as ledger:
                found = [asdict(each) async for each in ledger.purchases(since=since)]
        rows = summed([*found, *await self._served(since)], by)
        if as_json:
            self._print_json(rows)
        else:
            names = [*by, "requests", "prompt", "completion", "images"]
            columns = [*by, *(f">{name}" for name in names[len(by) :]), f">{self.currency}"]
            cells = ([*(row[name] for name in names), decimal(row["cost"])] for row in rows)
            console().print(table(columns, cells))

    async def _served(self, since: float) -> list[dict[str, Any]]:
        """What workers served; said on stderr if it cannot be read."""
        try:
            async with connected(self.fabric, "headrace-usage") as bus:
                messages = reading.read(bus, subjects.USAGE_STREAM, since=since)
                found = usages.served([message async for message in messages])
                return [usages.record(row) for row in found]
        except (BusError, Unreachable) as fault:
            print(f"what workers served cannot be read here: {fault}", file=sys.stderr)
            return []

    def _print_json(self, rows: Iterable[dict[str, Any]]) -> None:
        said = {"currency": self.currency, "unit": "micro", "data": list(rows)}
        print(orjson.dumps(said).decode())


def accounts(where: Where) -> Accounts:
    """The journal as the fallback finds it: --nats, else the settings, else the broker that runs
    on this machine. Raises SettingsError, or Unreachable if there is none."""
    settings = where.settings()
    currency, ledger = settings.fallback.currency, settings.ledger
    if where.nats:
        return Accounts(settings.nats, settings.nats, currency, founds=False)
    if ledger.url or ledger.user or "url" in settings.nats.model_fields_set:
        return Accounts(ledger_login(settings), settings.nats, currency)
    return Accounts(where.local("ledger"), where.local("admin"), currency)


async def _require_journal(bus: Bus, login: Nats) -> None:
    """Raises NoJournal where there is none for `login`."""
    try:
        await streams.info(bus, subjects.CREDITS_STREAM)
    except NotFound:
        raise NoJournal(
            f"there is no journal of credits at {login.shown} for the login {login.user!r}: the "
            "first fallback makes it, in the account of its section [ledger]. Name a login of that "
            "account (the one that 'headrace up' made is 'ledger')"
        ) from None


def micro(text: str) -> int:
    """Micro-units of a decimal such as ``12.5``. Raises Wrong."""
    try:
        amount = Decimal(text) * MICRO
        whole = int(amount)
    except (InvalidOperation, ValueError, OverflowError):
        raise Wrong(f"{text!r} is no amount such as 12.50") from None
    if whole != amount or abs(whole) > 10**15:  # a billion in micro-units
        raise Wrong(f"{text!r} is no amount of at most a billion with up to {PLACES} decimals")
    return whole


def decimal(amount: int) -> str:
    """``12.50``, ``0.000001``: two decimals, or more if the amount has more."""
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
    change = f"{'+' if entry.change >= 0 else ''}{decimal(entry.change)}"
    return (
        stamp(entry.at),
        entry.account,
        entry.kind,
        change,
        decimal(entry.balance),
        entry.job,
        about,
    )
