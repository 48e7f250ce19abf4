"""``/healthz`` (the process lives), ``/readyz`` (it can take requests), ``/metrics``.

``/health`` is the same as ``/readyz``: llama-server and vLLM call it so, and what waits for them
can wait for an ingress, too.
"""

from __future__ import annotations

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response

from ingress.context import context


async def alive(_: Request) -> Response:
    return Response(b'{"status":"ok"}', media_type="application/json")


async def ready(request: Request) -> Response:
    here = context(request)
    faults = []
    if not here.bus.connected:
        faults.append("the broker is away")
    if here.draining:
        faults.append("shutting down")
    state = {
        "status": "unavailable" if faults else "ok",
        "faults": faults,
        "models": sorted(here.catalog.models()),
    }
    status = 503 if faults else 200
    return Response(orjson.dumps(state), status, media_type="application/json")


async def metrics(_: Request) -> Response:
    return Response(generate_latest(), headers={"content-type": CONTENT_TYPE_LATEST})
