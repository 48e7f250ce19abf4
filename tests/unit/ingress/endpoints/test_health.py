from __future__ import annotations

import pytest

from tests.unit.ingress.asgi import Front


async def test_a_process_that_lives_says_so_to_anyone(front: Front) -> None:
    front.bus.up = False
    call = await front.call("GET", "/healthz", headers={}).whole()
    assert (call.status, call.json) == (200, {"status": "ok"})


@pytest.mark.parametrize("path", ["/readyz", "/health", "/v1/health"])
async def test_ready_with_a_broker(front: Front, path: str) -> None:
    call = await front.call("GET", path, headers={}).whole()
    assert call.status == 200
    assert call.json == {"status": "ok", "faults": [], "models": ["echo"]}


async def test_not_ready_without_one_or_while_it_drains(front: Front) -> None:
    front.bus.up = False
    front.context.draining = True
    call = await front.call("GET", "/readyz", headers={}).whole()
    assert (call.status, call.json["status"]) == (503, "unavailable")
    assert call.json["faults"] == ["the broker is away", "shutting down"]


async def test_metrics_are_prometheus_text(front: Front) -> None:
    call = await front.call("GET", "/metrics", headers={}).whole()
    assert call.status == 200
    assert call.headers["content-type"].startswith("text/plain")
    assert b"# TYPE headrace_requests_total counter" in call.body


async def test_clients_look_where_engines_have_it(front: Front) -> None:
    for path in ("/health", "/v1/health"):
        call = await front.call("GET", path, headers={}).whole()
        assert (call.status, call.json["status"]) == (200, "ok")
