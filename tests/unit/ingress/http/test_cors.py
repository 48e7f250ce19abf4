from __future__ import annotations

import pytest
from pydantic import ValidationError

from ingress.app import OWN
from schemas.settings import Ingress
from tests.unit.ingress.asgi import CHAT, SECRET, Call, FakeBusIngress

PAGE = "https://ui.example.com"
ALLOWED = "access-control-allow-origin"
ASKED = {
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization, content-type",
}


async def get(ingress: FakeBusIngress, path: str, origin: str = PAGE, **more: str) -> Call:
    headers = {"authorization": f"Bearer {SECRET}", "origin": origin, **more}
    return await ingress.call("GET", path, headers=headers).whole()


@pytest.fixture
def ingress() -> FakeBusIngress:
    return FakeBusIngress(cors_origins=["*"])


async def test_a_browser_is_told_what_its_page_may_send(ingress: FakeBusIngress) -> None:
    call = await ingress.call("OPTIONS", CHAT, headers={"origin": PAGE, **ASKED}).whole()
    assert (call.status, call.body, call.headers[ALLOWED]) == (200, b"", "*")
    assert call.headers["access-control-allow-headers"] == "authorization, content-type"
    assert "POST" in call.headers["access-control-allow-methods"]
    assert call.headers["x-request-id"]


async def test_a_page_sees_answers_and_errors_with_all_their_headers(
    ingress: FakeBusIngress,
) -> None:
    for path, status in (("/v1/models", 200), (CHAT, 405), ("/nowhere", 404)):
        call = await get(ingress, path)
        assert (call.status, call.headers[ALLOWED]) == (status, "*")
        assert call.headers["access-control-expose-headers"] == "*"
        assert "access-control-allow-credentials" not in call.headers


async def test_without_a_page_nothing_is_said_of_it(ingress: FakeBusIngress) -> None:
    call = await ingress.call("GET", "/v1/models").whole()
    assert not any(name.startswith("access-control") for name in call.headers)
    assert (await ingress.call("OPTIONS", CHAT).whole()).status == 405


@pytest.mark.parametrize("path", [path.partition("{")[0] for path, _, _ in OWN])
async def test_no_page_sees_what_is_no_part_of_the_api(ingress: FakeBusIngress, path: str) -> None:
    assert ALLOWED not in (await get(ingress, path)).headers


async def test_the_pages_of_the_config_and_no_others() -> None:
    ingress = FakeBusIngress(cors_origins=[PAGE + "/", "http://localhost:3000"])
    assert (await get(ingress, "/v1/models")).headers[ALLOWED] == PAGE
    for other in ("https://evil.example.com", PAGE + ".evil.com", "null"):
        assert ALLOWED not in (await get(ingress, "/v1/models", other)).headers
    call = await ingress.call("OPTIONS", CHAT, headers={"origin": "http://x", **ASKED}).whole()
    assert call.status == 200
    assert not any(name.startswith("access-control") for name in call.headers)


LOCAL = ["http://localhost", "http://localhost:3000", "https://127.0.0.1:1", "http://[::1]:5173"]
STRANGE = [
    PAGE,
    "http://notlocalhost",
    "http://localhost.evil.com",
    "http://localhost:3000.evil.com",
]


@pytest.mark.parametrize("origin", LOCAL)
async def test_pages_of_this_machine_may_unless_the_config_says_otherwise(origin: str) -> None:
    assert (await get(FakeBusIngress(), "/v1/models", origin)).headers[ALLOWED] == origin
    ingress = FakeBusIngress(cors_origins=[])
    assert ALLOWED not in (await get(ingress, "/v1/models", origin)).headers


@pytest.mark.parametrize("origin", STRANGE)
async def test_no_pages_of_others(origin: str) -> None:
    """As long as the config names none."""
    assert ALLOWED not in (await get(FakeBusIngress(), "/v1/models", origin)).headers


@pytest.mark.parametrize(
    "origin", ["", "ui.example.com", "https://ui.example.com/path", "https://*"]
)
def test_what_is_no_origin_is_no_setting(origin: str) -> None:
    with pytest.raises(ValidationError):
        Ingress(cors_origins=[origin])
