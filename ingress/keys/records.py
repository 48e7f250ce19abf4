"""What the store keeps of a key and of an account, as JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from schemas.errors import InvalidRequest
from schemas.keys import KeyPolicy, Limits

Record = TypeVar("Record", bound=BaseModel)


def _nameable(value: str) -> str:
    if not value.isprintable() or value != value.strip() or "/" in value:
        raise ValueError("a name has printable characters, no / and no space around it")
    return value


Name = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_nameable)]


class StoredSecret(BaseModel, extra="forbid", frozen=True):
    """One secret of a key. `digest`: `ingress.keys.secret.digest` in hex. `until`: seconds of the
    Unix epoch; None: as long as the key."""

    digest: str = Field(pattern="^[0-9a-f]{64}$")
    until: float | None = None


class KeyRecord(BaseModel, extra="forbid", frozen=True):
    """A key. `secrets`: the newest first; none of a key that was revoked. `created`, `changed`,
    `revoked`: seconds of the Unix epoch."""

    name: Name
    policy: KeyPolicy
    secrets: tuple[StoredSecret, ...]
    created: float
    changed: float
    revoked: float | None = None


class AccountRecord(BaseModel, extra="forbid", frozen=True):
    """What holds for all keys of an account together. `weight`: in the place of its keys'."""

    account: str = Field(min_length=1, max_length=64)
    limits: Limits = Limits()
    weight: float | None = Field(None, ge=0.01, le=100)


def revoked(record: KeyRecord, now: float) -> KeyRecord:
    """It stays, without secrets, so that what the key used has a name."""
    return record.model_copy(update={"secrets": (), "changed": now, "revoked": now})


def pack(record: BaseModel) -> bytes:
    return record.model_dump_json().encode()


def checked(kind: type[Record], said: Mapping[str, Any]) -> Record:
    """A record, or a part of one, of what a client says. Raises InvalidRequest that names the
    field."""
    try:
        return kind.model_validate(said)
    except ValidationError as fault:
        first = fault.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "body"
        why = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            why = "there is no such field"
        raise InvalidRequest(f"{where}: {why}.", param=where) from None


def merged(record: BaseModel, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `record` with `changes`, also within its sections, of which None as a whole
    means the default."""
    found = record.model_dump()
    for name, value in changes.items():
        before = found.get(name)
        if isinstance(before, dict) and isinstance(value, Mapping):
            found[name] = {**before, **value}
        elif value is None and name in found and before is not None:
            found.pop(name)
        else:
            found[name] = value
    return found
