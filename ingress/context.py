"""What every endpoint of one ingress works with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast

from starlette.requests import Request
from starlette.responses import Response

from ingress.auth import Keys, Principal
from ingress.catalog import Catalog
from ingress.dispatch import Dispatch
from ingress.routes import Routes
from schemas.bus import Bus
from schemas.settings import Settings

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(slots=True)
class Context:
    config: Settings
    bus: Bus
    catalog: Catalog
    routes: Routes
    dispatch: Dispatch
    keys: Keys
    draining: bool = False


def context(request: Request) -> Context:
    return cast(Context, request.app.state.context)


def principal(request: Request) -> Principal:
    """Raises Unauthorized."""
    return context(request).keys.who(request)
