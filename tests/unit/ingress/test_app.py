from __future__ import annotations

import re

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from ingress import app as apps
from ingress.app import API, OWN, Handler
from ingress.http.auth import Keys
from schemas.errors import BodyTooLarge
from schemas.traces import CURRENT, Trace
from tests.unit.ingress.asgi import CHAT, SECRET, FakeBusIngress

PATHS = [(v + path, verb) for v in ("/v1", "") for path, _, verb in API]
PATHS += [(path, verb) for path, _, verb in OWN]


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v2/models", "/v1/chat", "/healthz/", "/x"])
async def test_an_unknown_path_is_told_so(ingress: FakeBusIngress, path: str) -> None:
    call = await ingress.call("GET", path).whole()
    assert (call.status, call.error["code"]) == (404, "not_found")
    assert path in call.error["message"]
    assert call.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/v1/v1/chat/completions", "did you mean /v1/chat/completions?"),
        ("/chat/completion", "did you mean /v1/chat/completions?"),
        ("/v1/embeddngs", "did you mean /v1/embeddings?"),
        ("/v1/embeding", "did you mean /v1/embedding?"),
        ("/v2/reranks", "did you mean /v2/rerank?"),
        ("/v1/chat/completions/", "did you mean /v1/chat/completions?"),
        ("/responses/", "did you mean /v1/responses?"),
        ("/v1/chat/completions/chat/completions", "did you mean /v1/chat/completions?"),
        ("/v1/responses/v1/responses", "did you mean /v1/responses?"),
        ("/v1/fils", "no such endpoint."),
        (f"/v1/x/{'x' * 9000}", "no such endpoint."),
    ],
)
async def test_what_may_have_been_meant_is_told(
    ingress: FakeBusIngress, path: str, meant: str
) -> None:
    call = await ingress.call("POST", path).whole()
    assert call.error["message"].endswith(meant)


async def test_of_what_is_served_it_is_never_said_that_it_is_not(
    subtests: pytest.Subtests, ingress: FakeBusIngress
) -> None:
    for path in {path for path, _ in PATHS if "{" not in path}:
        for asked in (path, f"{path}/"):
            with subtests.test(asked):
                body = (await ingress.call("PATCH", asked).whole()).body
                assert b"not served here" not in body


@pytest.mark.parametrize("path", ["/v1/batches", "/files/file-1/content", "/v1/threads/t/runs"])
async def test_what_others_have_and_is_not_served_is_told_so(
    ingress: FakeBusIngress, path: str
) -> None:
    call = await ingress.call("GET", path).whole()
    assert (call.status, call.error["code"]) == (404, "not_found")
    assert call.error["message"].startswith(f"GET {path}: this endpoint is not served here: ")


async def test_a_client_of_anthropics_is_told_in_its_words(ingress: FakeBusIngress) -> None:
    version = {"anthropic-version": "2023-06-01"}
    ours = (await ingress.call("PUT", "/v1/queue", headers=version).whole()).json
    assert ours["error"]["code"] == "method_not_allowed"
    for call in (
        ingress.call("POST", "/v1/v1/messages", headers=version),
        ingress.call("POST", "/v1/messages/batches"),
        ingress.call("POST", "/v1/complete", headers=version),
    ):
        body = (await call.whole()).json
        assert (body["type"], body["error"]["type"]) == ("error", "not_found_error")


async def test_another_method_is_told_which_is_right(
    subtests: pytest.Subtests, ingress: FakeBusIngress
) -> None:
    for path, verb in PATHS:
        with subtests.test(path):
            real = path.replace("{model:path}", "m").replace("{name}", "n")
            call = await ingress.call("PUT", real).whole()
            assert (call.status, call.error["code"]) == (405, "method_not_allowed")
            assert verb in call.headers["allow"]
            assert call.error["message"].endswith(f", but {call.headers['allow']}.")


async def test_every_envelope_is_openais(ingress: FakeBusIngress) -> None:
    for call in (ingress.call("GET", "/x"), ingress.call("GET", CHAT), ingress.call("POST", CHAT)):
        await call.whole()
        assert set(call.error) == {"message", "type", "param", "code", "source"}
        assert call.headers["x-headrace-error-source"] == "ingress"


@pytest.mark.parametrize("where", ["/x", CHAT, "/v1/models", "/healthz"])
async def test_a_request_keeps_its_id(ingress: FakeBusIngress, where: str) -> None:
    headers = {"x-request-id": "mine-1 of 2", "authorization": f"Bearer {SECRET}"}
    call = await ingress.call("GET", where, headers=headers).whole()
    assert call.headers["x-request-id"] == "mine-1 of 2"


@pytest.mark.parametrize("sent", ["", "x" * 129, "a\tb", "ä", "a\x7f"])
async def test_an_id_that_is_not_sane_is_replaced(ingress: FakeBusIngress, sent: str) -> None:
    call = await ingress.call("GET", "/x", headers={"x-request-id": sent}).whole()
    assert re.fullmatch(r"req-[0-9a-f]{24}", call.headers["x-request-id"])


async def test_two_requests_get_two_ids(ingress: FakeBusIngress) -> None:
    one, other = ingress.call("GET", "/x"), ingress.call("GET", "/x")
    await one.whole()
    await other.whole()
    assert one.headers["x-request-id"] != other.headers["x-request-id"]


@pytest.fixture
def _broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise LookupError("secret detail")

    monkeypatch.setattr("ingress.http.auth.Keys.who", fail)


@pytest.mark.usefixtures("_broken")
async def test_a_fault_of_ours_tells_nothing_of_itself(ingress: FakeBusIngress) -> None:
    call = await ingress.call("POST", CHAT, b"{}").whole()
    assert (call.status, call.error["code"]) == (500, "internal_error")
    assert b"secret" not in call.body
    assert call.headers["x-request-id"]


async def test_without_a_key_nothing_is_read(ingress: FakeBusIngress) -> None:
    call = await ingress.call("POST", CHAT, [b"{}"], headers={}).whole()
    assert (call.status, call.error["code"], call.read) == (401, "invalid_api_key", 0)


async def test_a_body_that_is_too_large_is_answered_then_read_for_a_moment() -> None:
    ingress = FakeBusIngress(max_body=1024)
    call = ingress.call("POST", CHAT, [b"x" * 600] * 6)
    await call.until(lambda call: call.pieces)
    assert (call.status, call.error["code"]) == (413, "request_too_large")
    assert call.headers["connection"] == "close"
    assert int(call.headers["content-length"]) == len(call.body)
    await call.whole()
    assert call.read == 6


async def test_one_who_never_stops_sending_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apps, "LINGER", 0.01)

    def refuse(*_: object) -> None:
        raise BodyTooLarge("x")

    monkeypatch.setattr(Keys, "who", refuse)
    ingress = FakeBusIngress()
    call = ingress.call("POST", CHAT, b"")
    call.read = 1  # nothing more comes, and no disconnect either
    await call.whole()
    assert call.status == 413


async def test_other_protocols_are_not_served(ingress: FakeBusIngress) -> None:
    sent: list[object] = []

    async def send(message: object) -> None:
        sent.append(message)

    async def receive() -> dict[str, object]:
        raise AssertionError

    await ingress.app({"type": "websocket", "headers": []}, receive, send)
    assert sent == []


async def test_each_path_is_served_with_and_without_v1(ingress: FakeBusIngress) -> None:
    for path in ("/v1/models", "/models", "/v1/models/echo", "/models/echo"):
        call = await ingress.call("GET", path).whole()
        assert call.status == 200, path


async def test_a_request_behind_another_has_not_its_trace() -> None:
    """The server begins a request that was sent behind another where that one ended."""
    seen: list[Trace | None] = []

    async def serve(_: Request) -> Response:
        seen.append(CURRENT.get())
        return Response()

    async def receive() -> Message:
        raise AssertionError

    async def send(_: Message) -> None:
        """Nobody reads it."""

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "state": {"id": "r"}}
    token = CURRENT.set(Trace("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", True))
    try:
        await Handler({"GET": serve}, traced=True)(scope, receive, send)
    finally:
        CURRENT.reset(token)
    assert seen == [None]
