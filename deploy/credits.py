"""``headrace credits``: the journal of credits, for people and for programs.

Amounts are decimals of the currency for people, and whole micro-units (a millionth of it) in JSON.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import asdict, dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from deploy.configure import CommandFailed, Where
from deploy.money import decimal
from deploy.status import console, stamp, table
from deploy.survey import connected
from fallback.credits import witness
from fallback.credits.entries import MICRO, Balance, Entry
from fallback.credits.faults import Insufficient, LedgerError
from fallback.credits.ledger import Ledger
from schemas import subjects
from schemas.bus import Bus, NotFound
from schemas.jetstream import streams
from schemas.settings import Nats

PLACES = 6


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
    async def ledger(self) -> AsyncIterator[Ledger]:
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
        async with self.ledger() as ledger:
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
        async with self.ledger() as ledger:
            found = await ledger.balances()
        if account:
            found = {account: found.get(account, Balance(0, 0))}
        if as_json:
            self.print_json({"account": name, **asdict(each)} for name, each in found.items())
        else:
            columns = ("account", f">available {self.currency}", ">reserved")
            rows = ((n, decimal(has.available), decimal(has.reserved)) for n, has in found.items())
            console().print(table(columns, rows))

    async def history(self, account: str, limit: int, as_json: bool) -> None:
        """The newest entries of one account, or of all."""
        async with self.ledger() as ledger:
            found = [entry async for entry in ledger.history(account, limit=limit)]
        if as_json:
            self.print_json(asdict(entry) for entry in found)
        else:
            columns = ("time (UTC)", "account", "what", ">change", ">balance", "job", "about")
            console().print(table(columns, map(_row, found)))

    def print_json(self, rows: Iterable[dict[str, Any]], **more: Any) -> None:
        said = {"currency": self.currency, "unit": "micro", "data": list(rows), **more}
        print(orjson.dumps(said).decode())


def accounts(where: Where) -> Accounts:
    """The journal as the fallback finds it: --nats, else the settings, else the broker that runs
    on this machine. Raises SettingsError, or Unreachable if there is none."""
    settings = where.settings()
    currency, ledger = settings.fallback.currency, settings.ledger
    if where.nats:
        return Accounts(settings.nats, settings.nats, currency, founds=False)
    if ledger.given or "url" in settings.nats.model_fields_set:
        return Accounts(ledger.beside(settings.nats), settings.nats, currency)
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


def _row(entry: Entry) -> Iterable[str]:
    usage, about = entry.usage, entry.note
    if usage is not None:
        about = f"{usage.provider}/{usage.provider_model}"
        if usage.uncharged:
            about += f", {decimal(usage.uncharged)} more was not charged"
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
