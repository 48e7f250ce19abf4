"""The objects that every endpoint of one ingress works with."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING

from starlette.requests import Request

from ingress.answer.recent import Recent
from ingress.answer.schema_checker import SchemaChecker
from ingress.cache.serve import Cache
from ingress.http.auth import Keys
from ingress.http.held import Bodies
from ingress.idempotency.recordings import Recordings
from ingress.jobs.dispatch import Dispatch
from ingress.limits.limiter import Limiter
from ingress.models.catalog import Catalog
from ingress.models.routes import Routes
from ingress.request.fetch import Fetcher
from ingress.request.media import Media
from ingress.request.picture_store import PictureStore
from ingress.siblings import Siblings
from ingress.turns import Turns
from schemas.bus import Bus
from schemas.settings import Settings

if TYPE_CHECKING:
    from schemas.otel.telemetry import Telemetry


@dataclass(slots=True)
class Context:
    config: Settings
    bus: Bus
    catalog: Catalog
    routes: Routes
    dispatch: Dispatch
    keys: Keys
    vault: Bus | None = None
    """The broker's account with the keys and with what is used of limits; None if this ingress has
    no login for it."""
    limiter: Limiter = field(default_factory=Limiter)
    draining: bool = False
    telemetry: Telemetry | None = None
    """What is told to OpenTelemetry; None if nothing is."""
    siblings: Siblings | None = None
    """The other processes of this ingress, if it has several."""
    bodies: Bodies = field(init=False)
    parsing: Turns = field(default_factory=partial(Turns, 1, 1, sys.maxsize))
    """Of large bodies."""
    media: Media = field(init=False)
    pictures: PictureStore = field(init=False)
    recordings: Recordings = field(init=False)
    cache: Cache | None = field(init=False)
    """None if no request may have kept answers."""
    recent: Recent = field(init=False)
    schema_checker: SchemaChecker = field(default_factory=SchemaChecker)
    counting: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by who reads usage: one at a time, as that takes CPU from requests."""

    def __post_init__(self) -> None:
        edge = self.config.ingress
        self.bodies = Bodies(edge)
        self.media = Media(edge, self.catalog, Fetcher(edge))
        began = time.time() - time.monotonic()  # a step of the clock makes no address older
        own = self.siblings
        self.pictures = PictureStore(
            edge.picture_store,
            edge.picture_age,
            lambda: began + time.monotonic(),
            *(() if own is None else (own.secret, f"{own.number}-")),
        )
        jobs = self.dispatch
        self.recent = Recent(self.bus, jobs.ingress, jobs.tickets, jobs.ended)
        self.recordings = Recordings(self.bus, edge.unheard)
        about = self.config, self.bus, self.catalog, self.dispatch.usage
        self.cache = None if self.config.cache.use == "off" else Cache(*about)


context: Callable[[Request], Context] = attrgetter("app.context")
"""The context of the ingress that a request came to."""
