"""What reaches a worker of a chat request, and what does not get that far."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from schemas import jobs
from schemas.settings import Jobs
from tests.unit.ingress.asgi import CHAT, SECRET, FakeBusIngress
from tests.unit.ingress.jobs.recorder import Holder

MESSAGES = [{"role": "user", "content": "hi"}]


async def refused(
    ingress: FakeBusIngress, body: bytes, **headers: str
) -> tuple[int, dict[str, Any]]:
    call = ingress.call("POST", CHAT, body, {"authorization": f"Bearer {SECRET}", **headers})
    await call.whole()
    assert ingress.bus.posts == []
    return call.status, call.error


@pytest.mark.parametrize("path", [CHAT, "/chat/completions"])
async def test_the_body_goes_to_the_engine_as_it_came(ingress: FakeBusIngress, path: str) -> None:
    body = b'{ "messages" : [{"role":"user","content":"\\u00e4"}], "odd":[1e0], "model":"echo" }\n'
    ingress.call("POST", path, [body[:20], body[20:]])
    job = (await ingress.submitted()).job
    assert job.body == body
    assert (job.model, job.endpoint, job.stream) == ("echo", CHAT, False)
    assert (job.account, job.key) == ("acme", "k1")
    (post,) = ingress.bus.posts
    assert jobs.unpack(post.payload) == job


@pytest.mark.parametrize(("stream", "streams"), [(True, True), (False, False), (None, False)])
async def test_stream_is_what_the_client_says(
    ingress: FakeBusIngress, stream: Any, streams: bool
) -> None:
    ingress.ask(stream=stream)
    assert (await ingress.submitted()).job.stream is streams


@pytest.mark.parametrize("fields", [{"model": "chat"}, {"model": "echo"}, {"model": None}])
async def test_the_model_is_found_by_its_route(
    ingress: FakeBusIngress, fields: dict[str, Any]
) -> None:
    ingress.ask(**fields)
    assert (await ingress.submitted()).job.model == "echo"


async def test_an_unknown_model_is_a_404_with_the_known_names(ingress: FakeBusIngress) -> None:
    body = orjson.dumps({"model": "gpt-9", "messages": MESSAGES})
    status, error = await refused(ingress, body)
    assert (status, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert "chat, echo" in error["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"messages":NaN}', b"[" * 2000])
async def test_malformed_json_is_a_400(ingress: FakeBusIngress, body: bytes) -> None:
    status, error = await refused(ingress, body)
    assert (status, error["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize("body", [b"[]", b"1", b'"x"', b"null", b"{}", b'{"messages":[]}'])
async def test_what_is_no_chat_is_a_400(ingress: FakeBusIngress, body: bytes) -> None:
    status, error = await refused(ingress, body)
    assert (status, error["type"]) == (400, "invalid_request_error")
    assert error["param"]


async def test_a_wrong_type_is_a_400_that_says_where(ingress: FakeBusIngress) -> None:
    body = orjson.dumps({"model": "echo", "messages": [{"role": "user", "content": 5}]})
    status, error = await refused(ingress, body)
    assert (status, error["param"]) == (400, "messages[0].content")


async def test_a_form_is_a_400(ingress: FakeBusIngress) -> None:
    headers = {"content-type": "multipart/form-data; boundary=x"}
    status, _ = await refused(ingress, orjson.dumps({"messages": MESSAGES}), **headers)
    assert status == 400


async def test_while_shutting_down_the_answer_is_try_again(ingress: FakeBusIngress) -> None:
    ingress.context.draining = True
    call = await ingress.ask().whole()
    assert (call.status, call.error["code"]) == (503, "shutting_down")
    assert call.headers["retry-after"] == "1"


async def test_a_full_queue_is_a_429() -> None:
    ingress = FakeBusIngress(jobs=Jobs(queue_depth=7))
    call = ingress.ask()
    ticket = await ingress.submitted()
    why = b"maximum messages per subject exceeded"
    full = b'{"error":{"err_code":10077,"description":"%b"}}' % why
    ingress.dispatch.answered(ticket, 0, full)
    await call.whole()
    assert (call.status, call.error["type"]) == (429, "rate_limit_error")
    assert int(call.headers["retry-after"]) >= 1
    assert "7 requests" in call.error["message"]


async def test_an_error_of_the_worker_says_whose_it_is(ingress: FakeBusIngress) -> None:
    call = ingress.ask()
    holder = Holder("a", 1)
    ticket = await ingress.held(holder)
    ticket.frame(holder.fail(0, "engine_failed", retryable=False), 0)
    await call.whole()
    assert (call.status, call.error["source"]) == (502, "worker")
    assert call.headers["x-headrace-error-source"] == "worker"
