"""Who may read which usage over HTTP, and what is refused before anything is read."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from ingress.http.auth import Keys, Principal
from schemas import usage
from schemas.keys import KeyPolicy
from schemas.subjects import USAGE_STREAM
from schemas.usage import Served
from tests.unit.fakes import message
from tests.unit.ingress.asgi import FakeBusIngress

ROWS = [
    Served("2026-11-22", "acme", "k1", "m", "node-a", 2, 10, 20, 1, 1.5, 1),
    Served("2026-11-22", "acme", "k2", "m", "node-a", 1),
    Served("2026-11-22", "umbrella", "k3", "m", "node-b", 4),
]


@pytest.fixture(autouse=True)
def stored(monkeypatch: pytest.MonkeyPatch) -> None:
    async def read(_: object, stream: str, **__: object) -> AsyncIterator[object]:
        assert stream == USAGE_STREAM
        ack = "$JS.ACK.USAGE.c.1.1.1.1795348800000000000.0"
        sent = message("usage.in-1-0", usage.pack(ROWS), ack, headers=usage.REPLACING)
        yield sent

    monkeypatch.setattr("schemas.jetstream.reading.read_rolled", read)


@pytest.fixture
def scopes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of the key that asks."""
    found: list[str] = []

    def who(_: Keys, __: object) -> Principal:
        return Principal("k1", KeyPolicy(account="acme", scopes=tuple(found)))

    monkeypatch.setattr(Keys, "who", who)
    return found


async def test_a_key_reads_its_own_account_s_usage(
    ingress: FakeBusIngress, scopes: list[str]
) -> None:
    scopes.append("usage:read")
    path = "/v1/usage?since=2026-11&until=2026-11-22&by=key,node"
    call = await ingress.call("GET", path).whole()
    assert call.status == 200
    told = [(row["key"], row["node"], row["requests"]) for row in call.json["data"]]
    assert told == [("k1", "node-a", 2), ("k2", "node-a", 1)]
    total = call.json["total"]
    assert (total["requests"], total["failed"], total["slot_seconds"]) == (3, 1, 1.5)
    assert (call.json["since"], call.json["until"]) == (
        "2026-11-01T00:00:00+00:00",
        "2026-11-23T00:00:00+00:00",
    )
    one = await ingress.call("GET", f"{path}&key=k2&account=acme").whole()
    assert [row["key"] for row in one.json["data"]] == ["k2"]


async def test_it_reads_no_other_account_s(ingress: FakeBusIngress, scopes: list[str]) -> None:
    scopes.append("usage:read")
    for path, code in (
        ("/v1/usage?account=umbrella", "forbidden"),
        ("/admin/usage", "insufficient_scope"),
    ):
        call = await ingress.call("GET", path).whole()
        assert (call.status, call.error["code"]) == (403, code)


async def test_a_key_without_the_scope_reads_none(
    ingress: FakeBusIngress, scopes: list[str]
) -> None:
    scopes.append("inference")
    call = await ingress.call("GET", "/v1/usage").whole()
    assert call.status == 403
    assert "usage:read" in call.error["message"]


async def test_an_admin_reads_all(ingress: FakeBusIngress, scopes: list[str]) -> None:
    scopes.append("admin")
    call = await ingress.call("GET", "/admin/usage?since=2026-11-22&by=account,month").whole()
    told = [(row["account"], row["month"], row["requests"]) for row in call.json["data"]]
    assert told == [("acme", "2026-11", 3), ("umbrella", "2026-11", 4)]
    some = await ingress.call("GET", "/admin/usage?since=2026-11-22&account=umbrella").whole()
    assert some.json["total"]["requests"] == 4


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("by=", "by"),
        ("by=colour", "by"),
        ("since=yesterday", "since"),
        ("until=2026-13", "until"),
        ("since=2026-12&until=2026-11", "until"),
    ],
)
async def test_a_wrong_parameter_is_named(
    ingress: FakeBusIngress, scopes: list[str], query: str, param: str
) -> None:
    scopes.append("usage:read")
    call = await ingress.call("GET", f"/v1/usage?{query}").whole()
    assert (call.status, call.error["param"]) == (400, param)
