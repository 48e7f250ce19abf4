"""What the pages of one who has signed in may use."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field

from deploy.console.edge import Edge, EdgeFault
from deploy.console.feed import Feed
from schemas.keys import ADMIN, INFERENCE

_PATIENCE = 10.0
"""Seconds for an ingress to say whether a key is taken."""


async def holder(edge: Edge) -> tuple[str, tuple[str, ...]]:
    """The name and the scopes of the key that an edge asks with. Raises EdgeFault."""
    said = await edge.get("/v1/key")
    try:
        return str(said["name"]), tuple(map(str, said["scopes"]))
    except (KeyError, TypeError):
        raise EdgeFault("not_ours", f"What answers at {edge.url} is no ingress.", 502) from None


async def is_still_good(session: Session) -> bool:
    """Whether its key is taken, and may do what it might when it signed in. An ingress that is away
    says nothing of that."""
    try:
        async with asyncio.timeout(_PATIENCE):
            _, scopes = await holder(session.edge)
    except TimeoutError:
        return True
    except EdgeFault as fault:
        return fault.status not in (401, 403)
    return set(scopes) == set(session.scopes)


@dataclass(eq=False, slots=True)
class Session:
    """`name`: of the key that signed in; `scopes`: what it may do; `edge`: asks the ingress with
    that key; `feed`: what the broker tells, which is for admins, and the same for all of them."""

    name: str
    scopes: Collection[str]
    edge: Edge
    feed: Feed = field(repr=False)

    @property
    def key(self) -> str:
        """The same for all sessions of a key, and no secret."""
        return self.edge.digest

    @property
    def admin(self) -> bool:
        return ADMIN in self.scopes

    def may(self, scope: str) -> bool:
        """Whether the key has the scope, as the ingress goes by it: an admin may also read. A key
        for some endpoints counts as one that may ask models."""
        if scope == INFERENCE:
            return any(each.startswith(INFERENCE) for each in self.scopes)
        return scope in self.scopes or self.admin
