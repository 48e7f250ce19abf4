"""The store of keys as one ingress follows it: every look-up is answered from memory."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import structlog
from pydantic import ValidationError

from ingress.keys import secret as secrets
from ingress.keys.records import AccountRecord, KeyRecord
from ingress.keys.store import KeyStore
from schemas import subjects
from schemas.bus import Bus, BusDenied, BusError, Message
from schemas.errors import KeyExpired, KeysUnavailable
from schemas.jetstream import reading
from schemas.keys import KeyPolicy
from schemas.watched import watched

if TYPE_CHECKING:
    from ingress.http.auth import Principal

log = structlog.get_logger("keys")

Make = Callable[[str, KeyPolicy, AccountRecord | None], "Principal"]
"""Whose a key is: its name, its policy, and the record of its account."""

AGAIN = 1.0
"""Seconds after which a client may ask again while the store is away."""
PAUSE = 0.5
"""Seconds between two tries to open the store."""


class _Entry(NamedTuple):
    """Whose a secret is, until `until` (Unix seconds)."""

    who: Principal
    until: float


class Pages:
    """What the messages of the store say. Pure: they may come in any order, each subject's last
    one last."""

    def __init__(self, make: Make) -> None:
        self._make = make
        self.pepper = b""
        self.accounts: dict[str, AccountRecord] = {}
        self._keys: dict[str, KeyRecord] = {}
        self._by_digest: dict[bytes, _Entry] = {}

    @property
    def live(self) -> int:
        """How many keys are not revoked."""
        return sum(record.revoked is None for record in self._keys.values())

    def has_account(self, account: str) -> bool:
        """Whether there is a record of the account, or a key that is not revoked and has it."""
        return account in self.accounts or any(
            record.policy.account == account and record.revoked is None
            for record in self._keys.values()
        )

    def find(self, secret: str) -> _Entry | None:
        return self._by_digest.get(secrets.digest(self.pepper, secret))

    def records(self) -> list[KeyRecord]:
        return list(self._keys.values())

    def read(self, subject: str, data: bytes) -> None:
        """A key whose record cannot be read has no secret: it may have limits unknown here."""
        if subject == subjects.PEPPER:
            self.pepper = data
        elif subjects.is_account_record(subject):
            self._read_account(AccountRecord.model_validate_json(data))
        else:
            self._forget(subjects.recorded(subject))
            self._read_key(KeyRecord.model_validate_json(data))

    def _read_key(self, record: KeyRecord) -> None:
        self._keys[record.name] = record
        expires = math.inf if record.policy.expires is None else record.policy.expires
        who = self._make(record.name, record.policy, self.accounts.get(record.policy.account))
        for each in record.secrets:
            until = math.inf if each.until is None else each.until
            self._by_digest[bytes.fromhex(each.digest)] = _Entry(who, min(expires, until))

    def _read_account(self, record: AccountRecord) -> None:
        self.accounts[record.account] = record
        for key in self.records():
            if key.policy.account == record.account:
                self._read_key(key)

    def _forget(self, name: str) -> None:
        before = self._keys.pop(name, None)
        for each in before.secrets if before else ():
            digest = bytes.fromhex(each.digest)
            # An imported secret may have been given to two keys: then it is the later one's.
            entry = self._by_digest.get(digest)
            if entry is not None and entry.who.key == name:
                del self._by_digest[digest]


class KeyBook:
    """`outlives`: seconds for which keys that are known are good after the store was heard last."""

    def __init__(
        self,
        bus: Bus,
        outlives: float,
        replicas: int,
        make: Make,
        on_accounts: Callable[[], None],
    ) -> None:
        """`on_accounts` is called after each change of an account's record."""
        self._make = make
        self.store = KeyStore(bus, replicas)
        self._bus = bus
        self._outlives = outlives
        self._on_accounts = on_accounts
        self._pages = Pages(make)
        """What is in force."""
        self._draft = self._pages
        """What is being read; another one while the whole store is read again."""
        self._follower = reading.Follower(bus, subjects.KEYS_STREAM, self._hear, self._begin)
        self.opened = asyncio.Event()
        """Set once the store was read for the first time."""
        self._opening: asyncio.Task[None] | None = None
        self._opened_at = time.monotonic()

    def open(self) -> None:
        """Begin to follow the store, however long it is away."""
        self._opening = asyncio.create_task(watched("keys", self._open))

    async def close(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        await self._follower.close()

    @property
    def accounts(self) -> dict[str, AccountRecord]:
        return self._pages.accounts

    def has_account(self, account: str) -> bool:
        """Whether the store knows the account, by a record of it or a key."""
        return self._pages.has_account(account)

    @property
    def live(self) -> int:
        """How many keys are in the store that are not revoked."""
        return self._pages.live

    def find(self, secret: str) -> Principal | None:
        """Whose a secret is; None: nobody's. Raises KeyExpired, and KeysUnavailable while the store
        is away: for a secret that is not known, and after `outlives` seconds for each."""
        found = self._pages.find(secret)
        if found is None:
            if self._is_current():
                return None
            raise KeysUnavailable(_AWAY, retry_after=AGAIN)
        if time.monotonic() - self._heard() > self._outlives:
            raise KeysUnavailable(_AWAY, retry_after=AGAIN)
        if found.until <= time.time():
            raise KeyExpired("The API key has expired. Ask for another one.")
        return found.who

    def _is_current(self) -> bool:
        """Whether nothing can have been written that is not known here."""
        recent = time.monotonic() - self._heard() < 3 * reading.HEARTBEAT
        whole = self._pages is self._draft and self.opened.is_set()
        return whole and recent and bool(self._bus.connected)

    def _heard(self) -> float:
        return max(self._follower.heard, self._opened_at)

    async def _open(self) -> None:
        while True:
            try:
                await self.store.open()
                await self._follower.open(0.0, 0)
                return
            except BusDenied as fault:
                log.error("keys.denied", error=str(fault))
                return
            except BusError as fault:
                log.warning("keys.waiting", error=str(fault))
                await asyncio.sleep(PAUSE)

    def _begin(self) -> None:
        """The store is read from its start: what was known is in force until that is done."""
        self._draft = Pages(self._make)

    def _hear(self, message: Message) -> None:
        try:
            self._draft.read(message.subject, message.data)
        except (ValidationError, ValueError) as fault:
            # Not `fault` as it is: it has the text that could not be read.
            log.error("keys.unreadable", subject=message.subject, error=type(fault).__name__)
        if self._draft is self._pages:
            log.info("keys.changed", subject=message.subject)
            if subjects.is_account_record(message.subject):
                self._on_accounts()
        elif not subjects.left_of(message.reply):
            self._pages = self._draft
            self.opened.set()
            self._on_accounts()
            log.info("keys.read", keys=self.live)


_AWAY = "The store of API keys cannot be asked now. Try again."
