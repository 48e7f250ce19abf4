"""What the console has the hub do to nodes, on ``hub.console.<verb>``: what is asked and answered,
as JSON, and how the hub does it: by the same `desk` as `headrace node`, the administrator's.

The hub takes the console's word for who asks, as it does for an invitation's role: only its login,
which is in the data directory, may ask here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson
import structlog
from pydantic import BaseModel, Field, ValidationError

from deploy.configure import CommandFailed
from deploy.nats import store as stores
from deploy.nats.errors import StoreUnusable
from deploy.nodes import desk as desks
from deploy.nodes.desk import Desk
from schemas import bounds, registry
from schemas.bus import BusError
from schemas.jobs import CodecError

log = structlog.get_logger("hub")

INVITE, DRAIN, UNDRAIN, EVICT, FORGET = "invite", "drain", "undrain", "evict", "forget"
MOST_BYTES = 16 * 2**10
UNSHARED = (
    "other machines cannot reach this broker: start it as 'headrace up --share', or with a host in "
    "the section [share]"
)


class Change(BaseModel, extra="ignore"):
    """`by`: the name of the key that asks, for the log. `models`, `role`, `expires`: of an
    invitation, as `headrace node invite` takes them."""

    name: str = Field(max_length=bounds.NAME)
    by: str = Field("", max_length=bounds.NAME)
    models: list[str] = Field([], max_length=registry.MOST_GLOBS)
    role: str = Field(registry.WORKER, max_length=bounds.NAME)
    expires: str = Field("1h", max_length=bounds.NAME)


@dataclass(frozen=True, slots=True)
class Outcome:
    """`said`: what was done, in words, or with `failed` why not. `token`: of an invitation."""

    said: str
    failed: bool = False
    token: str = ""

    def pack(self) -> bytes:
        return orjson.dumps(asdict(self))


def unpack(data: bytes) -> Outcome:
    """Raises CodecError."""
    try:
        said = orjson.loads(data)
        return Outcome(str(said["said"]), said["failed"] is True, str(said["token"]))
    except (orjson.JSONDecodeError, KeyError, TypeError) as fault:
        raise CodecError(f"not what the hub says of a change: {fault}") from None


async def make(verb: str, data: bytes, store: Path, opened: Callable[[], Awaitable[Desk]]) -> bytes:
    """Do what is asked. `store`: the broker's; `opened`: the records as they are now."""
    try:
        if len(data) > MOST_BYTES:
            raise CommandFailed(f"{len(data)} bytes are more than {MOST_BYTES}")
        change = Change.model_validate_json(data)
        made = await _made(verb, change, store, await opened())
    except ValidationError:
        return Outcome("the hub cannot read that: console and hub are of two releases", True).pack()
    except (CommandFailed, StoreUnusable) as why:
        return Outcome(str(why), True).pack()
    except (BusError, CodecError, TimeoutError) as fault:
        log.error("hub.not_changed", verb=verb, error=str(fault))
        text = f"the hub cannot do that now ({type(fault).__name__}): try again"
        return Outcome(text, True).pack()
    log.info("hub.changed", verb=verb, name=change.name, by=change.by)
    return made.pack()


async def _made(verb: str, change: Change, store: Path, desk: Desk) -> Outcome:
    """Raises CommandFailed, and what the broker does."""
    name = change.name
    if verb == INVITE:
        return await _invited(change, store, desk)
    if verb in (DRAIN, UNDRAIN):
        return Outcome(await desks.drain(desk, name, drained=verb == DRAIN))
    if verb == EVICT:
        return Outcome(await desks.evict(desk, name))
    if verb == FORGET:
        return Outcome(await desks.forget(desk, name))
    raise CommandFailed(f"the hub knows no {verb!r}: console and hub are of two releases")


async def _invited(change: Change, store: Path, desk: Desk) -> Outcome:
    address = stores.find(store)
    if address is None or not address.addresses:
        raise CommandFailed(UNSHARED)
    models = [each.strip() for each in change.models]
    token = await desks.invite(desk, address, change.name, models, change.role, change.expires)
    line = f"headrace {change.role} --join {token.pack()}"
    return Outcome(f"{change.name} is invited", token=line)
