"""What every endpoint of one ingress works with."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import cast

from starlette.requests import Request

from ingress.answer.schema_checker import SchemaChecker
from ingress.http.auth import Keys, Principal
from ingress.jobs.dispatch import Dispatch
from ingress.models.catalog import Catalog
from ingress.models.fields import Fields
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
    fields: Fields = field(init=False)
    media: Media = field(init=False)
    pictures: PictureStore = field(init=False)
    schema_checker: SchemaChecker = field(default_factory=SchemaChecker)

    def __post_init__(self) -> None:
        edge = self.config.ingress
        self.fields = Fields(self.catalog)
        self.media = Media(edge, self.catalog, Fetcher(edge))
        self.pictures = PictureStore(edge.picture_store, edge.picture_age, time.time)


def context(request: Request) -> Context:
    return cast(Context, request.app.state.context)


def principal(request: Request) -> Principal:
    """Raises Unauthorized."""
    return context(request).keys.who(request)
