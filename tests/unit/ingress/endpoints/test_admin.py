"""What the admin API refuses before it asks a fallback."""

from __future__ import annotations

import pytest

from ingress.http.auth import Keys
from tests.unit.ingress.asgi import KEY, FakeBusIngress


@pytest.mark.parametrize("limit", ["", "0", "-1", "many", "10001", "9" * 5000])
async def test_a_limit_that_is_none_is_refused_by_name(ingress: FakeBusIngress, limit: str) -> None:
    ingress.context.keys = Keys([KEY.model_copy(update={"admin": True})])
    call = await ingress.call("GET", f"/admin/credits/a/history?limit={limit}").whole()
    assert (call.status, call.json["error"]["param"]) == (400, "limit")
