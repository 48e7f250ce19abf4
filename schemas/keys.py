"""What a key may do: the same for keys of the configuration and for those of the store."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field, field_validator, model_validator

INFERENCE = "inference"
READ_MODELS = "models:read"
READ_USAGE = "usage:read"
ADMIN = "admin"
SCOPES = (INFERENCE, READ_MODELS, READ_USAGE, ADMIN)


class Limits(BaseModel, extra="forbid", frozen=True):
    """What a key, or an account, may use at most. None: as much as it likes. `monthly_tokens` and
    `monthly_credits` begin anew with each month."""

    requests: int | None = Field(None, ge=1, le=10**9)
    """Requests in any 60 seconds."""
    tokens: int | None = Field(None, ge=1, le=10**12)
    """Tokens in any 60 seconds, prompt and answer: estimated at first, and then as they were."""
    concurrent: int | None = Field(None, ge=1, le=10**6)
    """Requests in flight at once, those that wait in the queue included."""
    queued: int | None = Field(None, ge=1, le=10**6)
    """Requests that wait in the queue of one model."""
    max_tokens: int | None = Field(None, ge=1, le=10**9)
    """The most tokens that one answer may have."""
    monthly_tokens: int | None = Field(None, ge=1, le=10**15)
    """Tokens in a calendar month, UTC."""
    monthly_credits: float | None = Field(None, gt=0, le=10**9)
    """Credits in a calendar month, UTC, in the currency of the fallback."""


class KeyPolicy(BaseModel, extra="forbid", frozen=True):
    """What a key may do, and how its requests are treated.

    `account`: who pays for it, and whose share of the queue its jobs have. `scopes`: `inference` is
    that for all endpoints, ``inference:<path>`` for one. `models`: globs of names; empty: all.
    `nodes`: globs of names; its requests go to no others, and to no provider. `expires`: seconds of
    the Unix epoch, given as such or as a time of RFC 3339. `local`: no provider may see its
    requests. `weight`: its jobs' share of a queue, against those of other accounts. `lane`: "b"
    binds it to the batch lane, which is served when nobody else waits. `lenient`: what would be
    refused as it has no effect is a warning.
    """

    account: str = Field("default", min_length=1, max_length=64)
    note: str = Field("", max_length=500)
    scopes: tuple[str, ...] = (INFERENCE, READ_MODELS)
    models: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    expires: float | None = Field(None, gt=0)
    local: bool = False
    weight: float = Field(1.0, ge=0.01, le=100)
    lane: Literal["i", "b"] = "i"
    lenient: bool = False
    limits: Limits = Limits()

    @field_validator("scopes")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        # Not above: most processes have no need of all the endpoints.
        from schemas.api.endpoints import BY_PATH

        for scope in value:
            word, _, path = scope.partition(":")
            if scope not in SCOPES and (word != INFERENCE or path not in BY_PATH):
                raise ValueError(
                    f"{scope!r} is no scope: there are {', '.join(SCOPES)}, and "
                    f"{INFERENCE}:<path> for one endpoint, as {INFERENCE}:{next(iter(BY_PATH))}"
                )
        return tuple(dict.fromkeys(value))

    @field_validator("models", "nodes")
    @classmethod
    def _globs(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not 0 < len(glob) <= 256 for glob in value):
            raise ValueError("a name, or a pattern of names as llama*, has 1 to 256 characters")
        return value

    @model_validator(mode="after")
    def _one_lane(self) -> KeyPolicy:
        if self.nodes and self.lane == "b":
            raise ValueError(
                "a key of the batch lane cannot be bound to nodes: single nodes have no such lane"
            )
        return self

    @field_validator("expires", mode="before")
    @classmethod
    def _moment(cls, value: object) -> object:
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                raise ValueError(f"{value!r} is no time as 2027-01-31T12:00:00Z") from None
        if isinstance(value, datetime):
            if value.tzinfo is None:
                raise ValueError("the time needs a zone, as 2027-01-31T12:00:00Z")
            return value.timestamp()
        return value


UNLIMITED = KeyPolicy()
