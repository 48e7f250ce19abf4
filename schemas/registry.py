"""Which nodes have joined, and who is invited to. Pure.

The broker keeps one record of each, as JSON: its last message counts, and an empty one means that
there is none any more. No record has a secret: a node's credential is the public half of a key pair
whose other half never leaves the node, and an invitation is known by the public half of the pair
that its token has.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import orjson

from schemas import bounds, nkeys
from schemas.frames import Role
from schemas.globs import may_use
from schemas.jobs import CodecError

ACTIVE = "active"
DRAINED = "drained"
"""It finishes what it has, and gets no more jobs."""
EVICTED = "evicted"
"""Its credential is dead. The record stays, so that nobody comes back by this name unnoticed."""
STATES = (ACTIVE, DRAINED, EVICTED)

WORKER, INGRESS, FALLBACK = str(Role.WORKER), "ingress", str(Role.FALLBACK)
ROLES = (WORKER, INGRESS, FALLBACK)

NAME = 64
"""Letters of a name that may join."""
MOST_GLOBS = 64
MOST_SERVED = 2048
"""Models that one node is granted."""
MOST_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Node:
    """A node, or one process of it: what the hub's operator has said of it, and its credential.

    `nkey`: its public key, ``U…``; "" for a node that uses a login of the hub's own machine.
    `second_nkey`: that of its connection to the account with the keys (an ingress), or the credits
    (a fallback). `models`: globs of those that it may serve; none: all. `state`: one of `STATES`,
    `since` when it became so. `invited`, `joined`: Unix seconds, 0 for a node that did not join.
    `served`: models that it was granted so far. `seen`: when its card was heard last, to the hour.
    `rotate`: when it was told to change its keys, 0 if it did. `previous_nkey`,
    `previous_second_nkey` and `previous_name` are good until `previous_until`, as it is changing
    them.
    """

    name: str
    role: str = WORKER
    nkey: str = ""
    second_nkey: str = ""
    models: tuple[str, ...] = ()
    state: str = ACTIVE
    since: float = 0.0
    invited: float = 0.0
    joined: float = 0.0
    served: tuple[str, ...] = ()
    seen: float = 0.0
    rotate: float = 0.0
    previous_nkey: str = ""
    previous_second_nkey: str = ""
    previous_name: str = ""
    previous_until: float = 0.0

    @property
    def keys(self) -> tuple[str, ...]:
        """All that it may log in by; "" for those that it has not."""
        return self.nkey, self.second_nkey, self.previous_nkey, self.previous_second_nkey

    def allows(self, model: str) -> bool:
        """Whether it may serve `model`, by its globs."""
        return may_use(model, self.models)

    def pack(self) -> bytes:
        return orjson.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class Invite:
    """One that may join once, as `name`, until `expires` (Unix seconds). `verifier`: the public key
    by which its token is known. `made`, `used`: Unix seconds; it was not used yet if that is 0."""

    id: str
    name: str
    verifier: str
    expires: float
    made: float = 0.0
    used: float = 0.0
    role: str = WORKER
    models: tuple[str, ...] = ()

    def pack(self) -> bytes:
        return orjson.dumps(asdict(self))


@dataclass(frozen=True, slots=True)
class Order:
    """What the hub says to each process of a node, again and again while its card shows that it has
    not heard: the name of its node, whether it is to be drained, and since when it is to change its
    keys. `granted`: how many models it may pull, of which it hears once there are more."""

    name: str
    drained: bool = False
    rotate: float = 0.0
    granted: float = 0.0

    def pack(self) -> bytes:
        return orjson.dumps(asdict(self))


Record = TypeVar("Record", Node, Invite, Order)


def unfit_name(name: str) -> str:
    """Why no node can join by this name; "" if one can."""
    if not 0 < len(name) <= NAME:
        return f"a node's name has 1 to {NAME} letters"
    # `/` is for paths of pages, `,` and `=` for labels, by which nodes are asked for, too.
    if not name.isprintable() or name != name.strip() or any(each in name for each in "/,=*?"):
        return "a node's name has printable letters, none of / , = * ? and no space around it"
    return ""


def unfit_glob(glob: str) -> str:
    """Why this is no glob of models; "" if it is."""
    if 0 < len(glob) <= bounds.NAME and glob.isprintable():
        return ""
    return f"a name of a model, or a pattern as llama*, has 1 to {bounds.NAME} printable letters"


def unpack(kind: type[Record], data: bytes) -> Record | None:
    """A `Node`, an `Invite` or an `Order`; None if it was forgotten, or is over. Raises CodecError.
    Fields of later releases are passed over."""
    if not data:
        return None
    if len(data) > MOST_BYTES:
        raise CodecError(f"not a record of a node: {len(data)} bytes are more than {MOST_BYTES}")
    try:
        said = orjson.loads(data)
        known = kind.__dataclass_fields__
        fields = {n: _fitting(known[n].type, said[n]) for n in known if n in said}
        found = kind(**fields)
        _check(found)
    except (ValueError, TypeError, LookupError) as fault:
        raise CodecError(f"not a record of a node: {fault}") from None
    return found


def _fitting(kind: object, value: Any) -> Any:
    """`value` as a field of this type. Raises TypeError."""
    if kind == "float" and type(value) in (int, float) and 0 <= value <= bounds.WHOLE:
        return float(value)
    if (kind == "str" and bounds.is_text(value)) or (kind == "bool" and type(value) is bool):
        return value
    if kind == "tuple[str, ...]" and type(value) is list and bounds.are_texts(value, bounds.MODEL):
        return tuple(value)
    raise TypeError(f"a field cannot be {str(value)[:64]!r}")


def _check(record: Node | Invite | Order) -> None:
    """Raises ValueError."""
    if isinstance(record, Order):
        _need(record.name != "", "name")
        return
    if isinstance(record, Node):
        _need(record.state in STATES and len(record.served) <= MOST_SERVED, "state, or models")
        _need(all(key == "" or nkeys.is_public(key) for key in record.keys), "key")
    else:
        _need(bounds.is_token(record.id, 64) and nkeys.is_public(record.verifier), "id, or key")
    # A node of the hub's own machine may have any name.
    own = isinstance(record, Node) and not record.nkey and 0 < len(record.name) <= bounds.NAME
    _need(own or not unfit_name(record.name), "name")
    _need(record.role in ROLES, "role")
    _need(len(record.models) <= MOST_GLOBS and not any(map(unfit_glob, record.models)), "patterns")


def _need(fits: bool, what: str) -> None:
    if not fits:
        raise ValueError(f"a {what} that there cannot be")
