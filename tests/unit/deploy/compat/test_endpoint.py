"""``GET /v1/compat``: who is refused before anything is probed."""

from __future__ import annotations

import asyncio

import pytest
from starlette.requests import Request

from deploy.compat import endpoint
from deploy.compat.endpoint import Matrix
from tests.unit.ingress.asgi import FakeBusIngress


@pytest.fixture
def matrix() -> Matrix:
    return Matrix()


@pytest.fixture
async def ingress(matrix: Matrix) -> FakeBusIngress:
    return FakeBusIngress(more=matrix.entries())


async def test_a_key_is_needed(ingress: FakeBusIngress) -> None:
    call = await ingress.call("GET", "/v1/compat", headers={}).whole()
    assert (call.status, call.error["code"]) == (401, "invalid_api_key")
    assert call.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/v1/compat", "/compat"])
async def test_a_model_that_is_not_served(path: str, ingress: FakeBusIngress) -> None:
    found = ingress.call("GET", path)
    found.scope["query_string"] = b"model=nothing"
    call = await found.whole()
    assert (call.status, call.error["code"]) == (404, "model_not_found")
    assert "Models that are: echo." in call.error["message"]
    assert call.error["param"] == "model"


async def test_one_run_at_a_time(ingress: FakeBusIngress, matrix: Matrix) -> None:
    matrix.running = asyncio.create_task(asyncio.Event().wait())  # type: ignore[arg-type]
    call = await ingress.call("GET", "/v1/compat").whole()
    assert (call.status, call.error["code"]) == (429, "queue_full")
    assert int(call.headers["retry-after"]) > 0
    matrix.running.cancel()


async def test_an_ingress_that_leaves(ingress: FakeBusIngress) -> None:
    ingress.context.draining = True
    call = await ingress.call("GET", "/v1/compat").whole()
    assert (call.status, call.error["code"]) == (503, "shutting_down")


def test_probes_ask_in_the_name_of_the_client_and_never_a_provider() -> None:
    raw = [(b"authorization", b"Bearer sk-x"), (b"cookie", b"a=b"), (b"host", b"evil:80")]
    scope = {"type": "http", "headers": raw, "server": ("::1", 8080)}
    request = Request(scope)
    assert endpoint._who(request) == {
        "authorization": "Bearer sk-x",
        "x-headrace-fallback": "never",
    }
    assert endpoint._address(request) == "http://[::1]:8080"


async def test_only_get(ingress: FakeBusIngress) -> None:
    call = await ingress.call("POST", "/v1/compat").whole()
    assert call.status == 405
