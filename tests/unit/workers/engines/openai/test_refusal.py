"""Errors of any engine in OpenAI's words."""

from __future__ import annotations

import orjson
import pytest

from schemas.frames import End
from schemas.nodes import Ignored, ServedModel
from tests.doubles.drive import RecordingSink
from workers.engines.openai.refusal import Refusal, passed_over, refuse_ignored, translate


@pytest.mark.parametrize(
    ("status", "body", "message", "code", "param"),
    [
        (400, b'{"error":{"message":"m","code":"c","param":"p","type":"t"}}', "m", "c", "p"),
        (400, b'{"error":{"message":"m","code":400,"param":null}}', "m", "invalid_request", None),
        (400, b'{"error":"m"}', "m", "invalid_request", None),
        (422, b'{"detail":"m"}', "m", "invalid_request", None),
        (400, b'{"type":"error","error":{"type":"x","message":"m"}}', "m", "invalid_request", None),
        (404, b'{"detail":"Not Found"}', "Not Found", "not_found", None),
        (404, b'{"error":"model \'x\' not found"}', "model 'x' not found", "model_not_found", None),
        (400, b"Invalid request\n", "Invalid request", "invalid_request", None),
        (400, b"", "The engine answered 400.", "invalid_request", None),
        (400, b"[1]", "[1]", "invalid_request", None),
        (500, b'{"error":"server_error","message":"m"}', "m", "invalid_request", None),
    ],
)
def test_errors_of_any_shape_get_openais(
    status: int, body: bytes, message: str, code: str, param: str | None
) -> None:
    found = translate(status, body)

    assert (found.message, found.code, found.param) == (message, code, param)
    kind = "invalid_request_error" if status < 500 else "server_error"
    assert orjson.loads(found.json())["error"]["type"] == kind


def test_what_is_passed_over_depends_on_the_endpoint_and_the_value() -> None:
    everywhere = Ignored("n", "one choice", unless=(1,))
    here = Ignored("echo", "never", ("completions",))
    model = ServedModel("m", "e", "k", 1, ignores=(everywhere, here))

    assert passed_over(model, "chat", {"n": 2, "echo": True}) == [everywhere]
    assert passed_over(model, "completions", {"n": 1, "echo": True}) == [here]
    assert passed_over(model, "completions", {"n": None, "echo": False}) == []
    with pytest.raises(Refusal, match="'echo' is not supported by the engine 'e': never") as caught:
        refuse_ignored("e", [Ignored("verbosity", "a hint"), here, everywhere], "chat")
    assert (caught.value.param, caught.value.code) == ("echo", "unsupported_parameter")


def test_a_refusal_is_a_whole_answer() -> None:
    sink = RecordingSink()
    end = Refusal("no", param="n", extra={"n_ctx": 5}, source="engine").answer(sink)

    assert end == End(0, 0, 0)
    assert sink.error == {
        "n_ctx": 5,
        "message": "no",
        "type": "invalid_request_error",
        "param": "n",
        "code": "invalid_request",
        "source": "engine",
    }
