"""The objects that every endpoint of one ingress works with."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter

from starlette.requests import Request

from ingress.answer.schema_checker import SchemaChecker
from ingress.http.auth import Keys
from ingress.idempotency.recordings import Recordings
from ingress.jobs.dispatch import Dispatch
from ingress.models.catalog import Catalog
from ingress.models.routes import Routes
from ingress.request.fetch import Fetcher
from ingress.request.media import Media
from ingress.request.picture_store import PictureStore
from schemas.bus import Bus
from schemas.settings import Settings


@dataclass(slots=True)
class Context:
    config: Settings
    bus: Bus
    catalog: Catalog
    routes: Routes
    dispatch: Dispatch
    keys: Keys
    draining: bool = False
    media: Media = field(init=False)
    pictures: PictureStore = field(init=False)
    recordings: Recordings = field(init=False)
    schema_checker: SchemaChecker = field(default_factory=SchemaChecker)

    def __post_init__(self) -> None:
        edge = self.config.ingress
        self.media = Media(edge, self.catalog, Fetcher(edge))
        began = time.time() - time.monotonic()  # a step of the clock makes no address older
        self.pictures = PictureStore(
            edge.picture_store, edge.picture_age, lambda: began + time.monotonic()
        )
        self.recordings = Recordings(self.bus, edge.unheard)


context: Callable[[Request], Context] = attrgetter("app.state.context")
"""The context of the ingress that a request came to."""
