from __future__ import annotations

import pytest

from tests.unit.ingress.asgi import FakeBusIngress


async def test_a_process_that_lives_says_so_to_anyone(ingress: FakeBusIngress) -> None:
    ingress.bus.up = False
    call = await ingress.call("GET", "/healthz", headers={}).whole()
    assert (call.status, call.json) == (200, {"status": "ok"})


@pytest.mark.parametrize("path", ["/readyz", "/health", "/v1/health"])
async def test_ready_with_a_broker(ingress: FakeBusIngress, path: str) -> None:
    call = await ingress.call("GET", path, headers={}).whole()
    assert call.status == 200
    assert call.json == {"status": "ok", "faults": [], "models": ["echo"]}


async def test_not_ready_without_one_or_while_it_drains(ingress: FakeBusIngress) -> None:
    ingress.bus.up = False
    ingress.context.draining = True
    call = await ingress.call("GET", "/readyz", headers={}).whole()
    assert (call.status, call.json["status"]) == (503, "unavailable")
    assert call.json["faults"] == ["the broker is away", "shutting down"]


async def test_metrics_are_prometheus_text(ingress: FakeBusIngress) -> None:
    call = await ingress.call("GET", "/metrics", headers={}).whole()
    assert call.status == 200
    assert call.headers["content-type"].startswith("text/plain")
    assert b"# TYPE headrace_requests_total counter" in call.body


async def test_clients_look_where_engines_have_it(ingress: FakeBusIngress) -> None:
    for path in ("/health", "/v1/health"):
        call = await ingress.call("GET", path, headers={}).whole()
        assert (call.status, call.json["status"]) == (200, "ok")
