"""Keys and accounts in the broker's stream: one message each, and the last one of a subject counts.

Whoever changes a record names the message that he read before, so of two at once the later one
reads again. The pepper of all hashes is a message of its own, made by who comes first. It is in the
store and no file, because each ingress needs it, wherever it runs: so one record says nothing of a
secret, but whoever has the whole store may try guesses. Secrets made here cannot be guessed.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ingress.keys.records import AccountRecord, KeyRecord, Record, pack, revoked
from schemas import subjects, topology
from schemas.bus import ApiError, Bus, BusError
from schemas.errors import Unavailable
from schemas.jetstream import reading, streams
from schemas.jetstream.streams import AFTER, MOVED_ON

_STREAM = subjects.KEYS_STREAM
_PEPPER = 32
"""Bytes."""
_TRIES = 8
"""How often a change is made anew as others changed the same record."""
_PATIENCE = 2.0


class KeyStore:
    """Every method raises BusError, and ValueError for a record of another release."""

    def __init__(self, bus: Bus, replicas: int = 1) -> None:
        self._pepper = b""
        self._bus = bus
        self._replicas = replicas

    async def open(self, *, found: bool = True) -> None:
        """`found`: make the stream and the pepper if they are missing; else this raises
        `schemas.bus.NotFound`."""
        if found:
            await streams.ensure(self._bus, [topology.keys(self._replicas)])
        else:
            await streams.info(self._bus, _STREAM)
        await self._season()

    async def _season(self) -> None:
        found = await self._newest(subjects.PEPPER)
        if found is None:
            await self._put(subjects.PEPPER, secrets.token_bytes(_PEPPER), 0)
            found = await self._newest(subjects.PEPPER)  # that of another, if he was quicker
        if found is None:
            raise BusError("the store of keys does not keep what is written")
        self._pepper = found[1]

    @property
    def pepper(self) -> bytes:
        if not self._pepper:  # nothing may be hashed without it
            raise BusError("the store of keys could not be opened yet")
        return self._pepper

    async def key(self, name: str) -> KeyRecord | None:
        found = await self._newest(subjects.key(name))
        return KeyRecord.model_validate_json(found[1]) if found else None

    async def account(self, account: str) -> AccountRecord | None:
        found = await self._newest(subjects.account_record(account))
        return AccountRecord.model_validate_json(found[1]) if found else None

    async def keys(self) -> list[KeyRecord]:
        """All keys, those that were revoked too, by their names."""
        found = await self._all(KeyRecord, subjects.ALL_KEYS)
        return sorted(found, key=lambda each: each.name)

    async def accounts(self) -> list[AccountRecord]:
        found = await self._all(AccountRecord, subjects.ALL_ACCOUNTS)
        return sorted(found, key=lambda each: each.account)

    async def change_key(
        self, name: str, change: Callable[[KeyRecord | None], KeyRecord]
    ) -> KeyRecord:
        """Replace the record of a key by what `change` makes of it. Raises Unavailable, and what
        `change` raises."""
        return await self._change(KeyRecord, subjects.key(name), change)

    async def change_account(
        self, account: str, change: Callable[[AccountRecord | None], AccountRecord]
    ) -> AccountRecord:
        return await self._change(AccountRecord, subjects.account_record(account), change)

    async def everything(self) -> dict[str, bytes]:
        """The last message of each subject, as it is."""
        messages = reading.read(self._bus, _STREAM)
        return {message.subject: message.data async for message in messages}

    async def replace(self, copy: Mapping[str, bytes]) -> None:
        """Write what `everything` gave. Nothing can be deleted, so keys that are not in the copy
        are revoked, and accounts lose their limits."""
        for subject in (await self.everything()).keys() - copy.keys():
            if subjects.is_account_record(subject):
                account = subjects.recorded(subject)
                await self.change_account(account, partial(_bare, account))
            elif subject != subjects.PEPPER:
                await self.change_key(subjects.recorded(subject), _gone)
        for subject in sorted(copy, key=lambda each: each != subjects.PEPPER):
            await self._bus.store(subject, {}, copy[subject])
        self._pepper = copy[subjects.PEPPER]

    async def _change(
        self, kind: type[Record], subject: str, change: Callable[[Record | None], Record]
    ) -> Record:
        for _ in range(_TRIES):
            place, data = await self._newest(subject) or (0, b"")
            made = change(kind.model_validate_json(data) if place else None)
            if await self._put(subject, pack(made), place):
                return made
        raise Unavailable("Others change the same record. Try again.", retry_after=1)

    async def _newest(self, subject: str) -> tuple[int, bytes] | None:
        return await streams.newest(self._bus, _STREAM, subject, _PATIENCE)

    async def _put(self, subject: str, data: bytes, after: int) -> bool:
        """Whether it was written: not so if the message `after` is no longer the last one."""
        try:
            await self._bus.store(subject, {AFTER: str(after)}, data)
        except ApiError as fault:
            if fault.code == MOVED_ON:
                return False
            raise
        return True

    async def _all(self, kind: type[Record], subject: str) -> list[Record]:
        found: list[Any] = []
        async for message in reading.read(self._bus, _STREAM, subject=subject):
            found.append(kind.model_validate_json(message.data))
        return found


def _gone(record: KeyRecord | None) -> KeyRecord:
    """The record of a key that is no more. Raises ValueError if there is none."""
    if record is None:
        raise ValueError("a key without a record")
    return revoked(record, time.time())


def _bare(account: str, _: AccountRecord | None) -> AccountRecord:
    return AccountRecord(account=account)
