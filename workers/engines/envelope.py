"""Refusals of engines, and the worker's own, in OpenAI's envelope.

OpenAI's clients read four fields: `message`, `type`, `param` and a `code` that is a string. Engines
answer with numbers for codes (vLLM, llama-server), a bare string (sd-server, Ollama's own API),
FastAPI's ``{"detail": …}``, Anthropic's ``{"type": "error", …}``, or text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from schemas.frames import End
from workers.engines.base import Sink

JSON = "application/json"
LENIENT = ("lenient", "true")
"""The job's tag of a client that takes an answer without the fields that are passed over."""
TYPE = "invalid_request_error"

_TOO_LONG = re.compile(
    r"maximum context length"  # vLLM
    r"|exceeds the (available )?context (size|length)"  # llama-server; Ollama
    r"|longer than the context length",  # Ollama without context shift
    re.IGNORECASE,
)
_NO_MODEL = re.compile(r"\bmodel\b.*(not found|does not exist)", re.IGNORECASE | re.DOTALL)


class Refusal(Exception):
    """A request that will not be served as it is. `source`: ``engine`` or ``worker``.

    `extra`: further fields of the engine's error object, passed on.
    """

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str = "invalid_request",
        status: int = 400,
        source: str = "worker",
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code
        self.status = status
        self.source = source
        self.extra = dict(extra or {})

    def json(self) -> bytes:
        error = {
            **self.extra,
            "message": self.message,
            "type": TYPE,
            "param": self.param,
            "code": self.code,
            "source": self.source,
        }
        return orjson.dumps({"error": error})

    def answer(self, sink: Sink) -> End:
        """Say so to the client; no tokens were spent."""
        sink.start(self.status, JSON)
        sink.data(self.json())
        return End(0, 0, 0)


NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "tool_choice": ("auto", "none"),
    "parallel_tool_calls": (True,),
    "cache_prompt": (True,),
}
"""Values with which a field asks for nothing but what every engine does anyway."""
_NOTHING: tuple[Any, ...] = (None, False, "", 0, [], {})


def ignored(
    fields: Mapping[str, str],
    request: Mapping[str, Any],
    neutral: Mapping[str, tuple[Any, ...]] = NEUTRAL,
) -> dict[str, str]:
    """Those of `fields` (name: why it is passed over) that `request` really asks for."""
    return {
        name: why
        for name, why in fields.items()
        if name in request
        and request[name] not in _NOTHING
        and request[name] not in neutral.get(name, ())
    }


def refuse_ignored(engine: str, found: Mapping[str, str]) -> None:
    """Raises Refusal naming the first of the fields that would be passed over in silence."""
    for name, why in found.items():
        message = f"{name!r} is not supported by the engine {engine!r}: {why}."
        raise Refusal(message, param=name, code="unsupported_parameter")


def translate(status: int, body: bytes) -> Refusal:
    """What an engine's 4xx answer says."""
    found = _error_of(body)
    message = _unwrap(str(found.pop("message", "") or f"The engine answered {status}."))
    param, code = found.pop("param", None), found.pop("code", None)
    found.pop("type", None)
    return Refusal(
        message,
        param=param if isinstance(param, str) else None,
        code=code if isinstance(code, str) and code else _code(status, message, param),
        status=status,
        source="engine",
        extra=found,
    )


def _error_of(body: bytes) -> dict[str, Any]:
    """The error object in any of the shapes; `message` alone where there is none."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {"message": body.decode(errors="replace").strip()}
    if not isinstance(found, dict):
        return {"message": str(found)}
    error = found.get("error")
    if isinstance(error, dict):
        return dict(error)
    told = found.get("message") or found.get("detail") or error
    return {"message": told if isinstance(told, str) else orjson.dumps(found).decode()}


def _unwrap(message: str) -> str:
    """Ollama passes on its runner's whole JSON body as the message."""
    if not message.startswith("{"):
        return message
    inner = _error_of(message.encode()).get("message")
    return inner if isinstance(inner, str) else message


def _code(status: int, message: str, param: object) -> str:
    if status == 404:
        missing = param == "model" or _NO_MODEL.search(message)
        return "model_not_found" if missing else "not_found"
    if _TOO_LONG.search(message):
        return "context_length_exceeded"
    return "invalid_request"
