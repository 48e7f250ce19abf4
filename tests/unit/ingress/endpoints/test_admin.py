"""What the admin API refuses before it asks a fallback."""

from __future__ import annotations

import orjson
import pytest

from ingress.endpoints import admin
from ingress.http.auth import Keys
from schemas.bus import Message
from tests.unit.fakes import message
from tests.unit.ingress.asgi import KEY, FakeBusIngress


@pytest.mark.parametrize("limit", ["", "0", "-1", "many", "10001", "9" * 5000])
async def test_a_limit_that_is_none_is_refused_by_name(ingress: FakeBusIngress, limit: str) -> None:
    ingress.context.keys = Keys([KEY.model_copy(update={"admin": True})])
    call = await ingress.call("GET", f"/admin/credits/a/history?limit={limit}").whole()
    assert (call.status, call.json["error"]["param"]) == (400, "limit")


async def test_it_is_said_that_there_are_more_accounts(
    ingress: FakeBusIngress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "MOST", 1)
    ingress.context.keys = Keys([KEY.model_copy(update={"admin": True})])
    rows = [{"account": name, "available": 1, "reserved": 0} for name in ("a", "b")]
    for found, more in ((rows, True), (rows[:1], False)):

        async def answer(subject: str, _: bytes, said: object = found) -> Message:
            return message(subject, orjson.dumps({"ok": said}))

        ingress.bus.answer = answer
        call = await ingress.call("GET", "/admin/credits").whole()
        assert (call.json["data"], call.json["more"]) == (rows[:1], more)
