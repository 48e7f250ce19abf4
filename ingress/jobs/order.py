"""What an endpoint wants done, before it is a job."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from ingress.jobs.affine import Trail
from ingress.jobs.spilled import Body
from ingress.jobs.state import NOBODY, Resumers
from ingress.models.routes import Plan
from schemas import subjects
from schemas.api.base import WHOLE, Outline


@dataclass(slots=True)
class Order:
    """`body` goes to the engine as it is."""

    plan: Plan
    endpoint: str
    stream: bool
    body: Body
    content_type: str
    account: str
    key: str
    lenient: bool = False
    resumers: Resumers = NOBODY
    _: KW_ONLY
    outline: Outline = WHOLE
    """Of a request whose stream may be continued."""
    begun: bytes = b""
    """Events of a worker that the client has: the stream goes on from there."""
    id: str = ""
    """The id of its job; if empty, the job gets a random one."""
    together: int = 1
    """How many jobs its request has."""
    weight: float = 1.0
    """Its account's share of a queue, against those of other accounts."""
    lane: str = subjects.INTERACTIVE
    """Or `subjects.BATCH`. What is for providers alone has their lane all the same, and what is
    pinned that of a node."""
    trail: Trail | None = None
    """Of its prompt, if it makes a difference which engine has the job."""
