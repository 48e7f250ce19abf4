"""The keys of a node that joined, in its files, and how they are changed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from deploy.nats.credentials import write_private
from deploy.nodes import exchange
from deploy.nodes.exchange import Ask
from schemas import nkeys
from schemas.identity import Ask as AskHub
from schemas.identity import NotObeyed
from schemas.jobs import CodecError
from schemas.nkeys import KeyPair
from schemas.settings import Login, Nats


def of(nats: Nats, second: Login | None, rename: Callable[[str], None]) -> Keys | None:
    """Those of a process with these logins; None if its login is no key. Raises SettingsError for
    a key that cannot be read."""
    paths = [login.seed for login in (nats, second) if login is not None and login.seed]
    if not nats.seed:
        return None
    nats.key()
    return Keys(tuple(map(Path, paths)), rename)


class Keys:
    """`seeds`: the files of its connection and, but for a worker, of the second one. Several
    processes may have the same ones, of which the first to be told changes them. `rename` keeps the
    node's name; raises OSError."""

    def __init__(self, seeds: tuple[Path, ...], rename: Callable[[str], None]) -> None:
        self._seeds = seeds
        self._rename = rename
        self._known = self._public()

    @property
    def public(self) -> str:
        """As `schemas.identity.Identity` has it."""
        return self._known[0]

    def rename(self, name: str) -> None:
        """As `schemas.identity.Identity` has it."""
        try:
            self._rename(name)
        except OSError as fault:
            raise NotObeyed(f"the new name cannot be kept: {fault}") from None

    async def rotate(self, ask: AskHub) -> None:
        """As `schemas.identity.Identity` has it. New keys are kept before the hub hears of them, so
        that an answer which is lost loses no key."""
        try:
            with self._alone():
                if (now := self._public()) == self._known:
                    await self._change(ask)
                    now = self._public()
                self._known = now
        except (OSError, nkeys.NoSeed, CodecError) as fault:
            raise NotObeyed(f"the keys cannot be changed: {fault}") from None

    async def _change(self, ask: AskHub) -> None:
        fresh = [_drafted(path) for path in self._seeds]
        asked = Ask(
            fresh[0].public,
            time.time(),
            fresh[1].public if len(fresh) > 1 else "",
            metadata.version("headrace"),
        )
        said = exchange.unpack_answer(await ask(asked.pack()))
        if said.code:
            for path in self._seeds:
                _draft(path).unlink(missing_ok=True)
            raise NotObeyed(f"the hub takes no new keys: {said.message}")
        for path in self._seeds:
            _draft(path).replace(path)

    def _public(self) -> tuple[str, ...]:
        return tuple(nkeys.read(path.read_text()).public for path in self._seeds)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time. Raises BlockingIOError, an OSError."""
        lock = os.open(self._seeds[0].with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        finally:
            os.close(lock)


def _draft(seed: Path) -> Path:
    return seed.with_name(f"{seed.name}.next")


def _drafted(seed: Path) -> KeyPair:
    """The key that is to be in the place of that in `seed`: one that was asked for already, if that
    was not answered."""
    draft = _draft(seed)
    if draft.exists():
        return nkeys.read(draft.read_text())
    made = nkeys.make()
    write_private(draft, made.seed + "\n")
    return made
