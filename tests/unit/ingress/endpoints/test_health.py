from __future__ import annotations

import pytest

from schemas.settings import Key
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


@pytest.mark.parametrize(
    ("asked", "fault"),
    [
        ("served=1", ""),
        ("model=echo", ""),
        ("model=echo&served=0", ""),
        ("model=other", "no worker serves the model 'other'"),
    ],
)
async def test_it_can_be_asked_to_fail_without_a_model(
    ingress: FakeBusIngress, asked: str, fault: str
) -> None:
    call = await ingress.call("GET", f"/readyz?{asked}", headers={}).whole()
    assert (call.status, call.json["faults"]) == (503, [fault]) if fault else (200, [])


async def test_metrics_are_prometheus_text(ingress: FakeBusIngress) -> None:
    call = await ingress.call("GET", "/metrics", headers={}).whole()
    assert call.status == 200
    assert call.headers["content-type"].startswith("text/plain")
    assert b"# TYPE headrace_requests_total counter" in call.body


async def test_clients_look_where_engines_have_it(ingress: FakeBusIngress) -> None:
    for path in ("/health", "/v1/health"):
        call = await ingress.call("GET", path, headers={}).whole()
        assert (call.status, call.json["status"]) == (200, "ok")


@pytest.mark.parametrize("path", ["/readyz", "/health", "/v1/health", "/metrics"])
async def test_a_page_whose_name_leads_here_reads_nothing(
    ingress: FakeBusIngress, path: str
) -> None:
    call = await ingress.call("GET", path, headers={"host": "evil.example:8080"}).whole()
    assert (call.status, call.error["code"]) == (421, "unknown_host")
    assert b"echo" not in call.body
    for host in ("localhost:8080", "127.0.0.1:8080", "[::1]:8080"):
        call = await ingress.call("GET", path, headers={"host": host}).whole()
        assert call.status == 200


async def test_beyond_this_machine_models_are_named_to_keys_alone() -> None:
    reads, asks = (
        Key.model_validate({"name": scope, "secret": f"sk-{scope}-0123456789", "scopes": [scope]})
        for scope in ("models:read", "inference")
    )
    ingress = FakeBusIngress(host="0.0.0.0")
    ingress.context.keys.replace([reads, asks])
    wanted: dict[str, list[str]] = {
        "": [],
        "sk-models:read-0123456789": ["echo"],
        "sk-inference-0123456789": [],
    }
    for secret, models in wanted.items():
        headers = {"host": "gpu.example"} | ({"x-api-key": secret} if secret else {})
        call = await ingress.call("GET", "/readyz", headers=headers).whole()
        assert (call.status, call.json["models"]) == (200, models)
    call = await ingress.call("GET", "/readyz", headers={"x-api-key": "wrong"}).whole()
    assert call.status == 401
