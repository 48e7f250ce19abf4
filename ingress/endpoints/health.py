"""``/healthz`` (the process lives), ``/readyz`` (it can take requests), ``/metrics``.

``/health`` is the same as ``/readyz``: llama-server and vLLM call it so, and what waits for them
can wait for an ingress, too.

They need no key. So an ingress on loopback answers to its own names alone (`schemas.hosts`), and
one that others can reach names its models to nobody without a key.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response

from ingress.context import Context, context
from ingress.models.routes import usable
from schemas import bounds, hosts
from schemas.errors import UnknownHost
from schemas.keys import READ_MODELS


async def alive(_: Request) -> Response:
    return Response(b'{"status":"ok"}', media_type="application/json")


async def ready(request: Request) -> Response:
    need_own_host(request)
    here = context(request)
    wrong = faults(here) + unserved(here, request)
    state = {
        "status": "unavailable" if wrong else "ok",
        "faults": wrong,
        "models": named(here, request),
    }
    status = 503 if wrong else 200
    return Response(orjson.dumps(state), status, media_type="application/json")


def faults(here: Context) -> list[str]:
    """Why it can take no requests now."""
    found = []
    if not here.bus.connected:
        found.append("the broker is away")
    if here.draining:
        found.append("shutting down")
    return found


def unserved(here: Context, request: Request) -> list[str]:
    """What is wrong for who asks also for a model: `?served=1` for any, `?model=NAME` for one."""
    asked = request.query_params
    if asked.get("served", "0") not in ("", "0", "false") and not here.catalog.models():
        return ["no worker serves a model"]
    model = asked.get("model", "")
    if model and model not in named(here, request):
        return [f"no worker serves the model {bounds.cut(model)!r}"]
    return []


def named(here: Context, request: Request) -> list[str]:
    """The models that workers serve, as far as whoever asks may know them. Raises Unauthorized."""
    found = sorted(here.catalog.models())
    if here.config.ingress.is_loopback:
        return found
    if not any(name in request.headers for name in ("authorization", "x-api-key")):
        return []
    policy = here.keys.who(request).policy
    return usable(found, policy.models) if READ_MODELS in policy.scopes else []


def need_own_host(request: Request) -> None:
    """Raises UnknownHost."""
    edge = context(request).config.ingress
    host = request.headers.get("host", "")
    if edge.is_loopback and not hosts.is_ours(host, urlsplit(edge.public_url).hostname or ""):
        raise UnknownHost(
            f"This page is not there for {bounds.cut(host)!r}, but for localhost and addresses; a "
            "name that clients use is to be that of [ingress] public_url."
        )


async def metrics(request: Request) -> Response:
    need_own_host(request)
    siblings = context(request).siblings
    page = generate_latest() if siblings is None else await siblings.metrics()
    return Response(page, headers={"content-type": CONTENT_TYPE_LATEST})
