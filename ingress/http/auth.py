"""Whose key a request has. Keys are found by a keyed hash of their secrets, so that neither the
look-up nor how long it takes tells anything of the bytes of another secret."""

from __future__ import annotations

import hashlib
import secrets as random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import Request

from ingress.http.attempts import FailedAttempts
from ingress.keys import secret as secrets
from schemas.errors import InsufficientScope, KeyExpired, KeyMistyped, Unauthorized
from schemas.keys import ADMIN, INFERENCE, UNLIMITED, KeyPolicy, Limits
from schemas.settings import Key

if TYPE_CHECKING:
    from ingress.keys.book import KeyBook
    from ingress.keys.records import AccountRecord

FAILED = 30
"""Failed attempts of one address in a minute, unless the settings say otherwise."""


@dataclass(frozen=True, slots=True)
class Principal:
    """For whom a request is made. `key`: the key's name, never its secret. `policy`: what the key
    may do. `account_limits`, `account_weight`: what holds for all keys of the account together;
    None: each key has its own weight."""

    key: str
    policy: KeyPolicy = UNLIMITED
    account_limits: Limits = UNLIMITED.limits
    account_weight: float | None = None

    @property
    def account(self) -> str:
        return self.policy.account

    @property
    def local(self) -> bool:
        """No provider may see its requests."""
        return self.policy.local

    @property
    def is_limited(self) -> bool:
        """Whether anything of its key's or account's use may have to be counted."""
        return bool(self.policy.limits.model_fields_set or self.account_limits.model_fields_set)

    @property
    def most_tokens(self) -> int | None:
        """The most that one answer may have."""
        one, all_keys = self.policy.limits.max_tokens, self.account_limits.max_tokens
        return one if all_keys is None or (one is not None and one < all_keys) else all_keys

    def need(self, scope: str) -> None:
        """Raises InsufficientScope. An admin may also read; to ask models is a scope of its own."""
        have = self.policy.scopes
        if scope not in have and (scope == INFERENCE or ADMIN not in have):
            raise InsufficientScope(f"This key may not do that: it needs the scope {scope!r}.")

    def need_endpoint(self, path: str) -> None:
        """Raises InsufficientScope unless the key may use the endpoint of this path."""
        have = self.policy.scopes
        if INFERENCE not in have and f"{INFERENCE}:{path}" not in have:
            self.need(INFERENCE)

    def need_any_endpoint(self) -> None:
        """Raises InsufficientScope if the key may use none at all."""
        have = self.policy.scopes
        if INFERENCE not in have and not any(scope.startswith(INFERENCE) for scope in have):
            self.need(INFERENCE)


def principal(key: str, policy: KeyPolicy, account: AccountRecord | None) -> Principal:
    """`account`: its record, if it has one."""
    if account is None:
        return Principal(key, policy)
    return Principal(key, policy, account.limits, account.weight)


class Keys:
    """All keys that this ingress knows: those of the configuration, and those of the store."""

    def __init__(
        self,
        keys: list[Key],
        failed: int = FAILED,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`failed`: attempts of one address that may fail in a minute."""
        self.book: KeyBook | None = None
        self._attempts = FailedAttempts(failed, clock)
        self._pepper = random.token_bytes(32)
        self.replace(keys)

    @property
    def none(self) -> bool:
        """Whether surely nobody has a key. A store that was not read yet may have some."""
        book = self.book
        empty = book is None or (book.opened.is_set() and not book.live)
        return not self.configured and empty

    def has_account(self, account: str) -> bool:
        """Whether a key has the account."""
        if any(key.account == account for key in self.configured):
            return True
        return self.book is not None and self.book.has_account(account)

    def replace(self, keys: list[Key]) -> None:
        """These are the keys of the configuration from now on."""
        self.configured = keys
        self.renew()

    def renew(self) -> None:
        """The accounts in the store are others."""
        accounts = self.book.accounts if self.book is not None else {}
        self._known = {
            self._digest(key.secret.get_secret_value()): principal(
                key.name, key.policy(), accounts.get(key.account)
            )
            for key in self.configured
        }

    def who(self, request: Request) -> Principal:
        """Whose key is in ``Authorization: Bearer`` or ``x-api-key``. Raises Unauthorized,
        TooManyAttempts, KeysUnavailable."""
        said = request.headers.get("authorization", "")
        scheme, _, secret = said.partition(" ")
        if scheme.lower() != "bearer":  # Anthropic's clients send the other header
            bare = "" if secret else said  # without a word before it, as llama-server takes it
            secret = request.headers.get("x-api-key", bare)
        secret = secret.strip()
        if not secret:
            raise Unauthorized("No API key was sent. Send one as 'Authorization: Bearer <key>'.")
        client = request.scope.get("client")  # `request.client` would make a tuple of its own
        address: str = client[0] if client else ""
        try:
            found = self._find(secret)
        except KeyMistyped:
            self._attempts.failed(address)
            raise
        if found is None:
            self._attempts.failed(address)
            raise Unauthorized("The API key is not known here.")
        if (address, found.key) not in self._attempts.guests:
            self._attempts.passed(address, found.key)
        return found

    def _find(self, secret: str) -> Principal | None:
        """Raises KeyMistyped, KeyExpired, KeysUnavailable."""
        found = self._known.get(self._digest(secret))
        if found is None:
            if secrets.is_mistyped(secret):
                why = "The API key is mistyped or cut: its last six characters do not fit the rest."
                raise KeyMistyped(why)
            return self.book.find(secret) if self.book is not None else None
        if found.policy.expires is not None and found.policy.expires <= time.time():
            raise KeyExpired("The API key has expired. Ask for another one.")
        return found

    def _digest(self, secret: str) -> bytes:
        """Not as in the store: what it is made with is this process' own."""
        raw = secret.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(raw, key=self._pepper, digest_size=32).digest()


def need_scope(request: Request, scope: str) -> Principal:
    """Who asks, if that key has the scope. Raises Unauthorized, InsufficientScope."""
    keys: Keys = request.app.context.keys
    who = keys.who(request)
    who.need(scope)
    return who
