"""Refusals by engines and by the worker, in OpenAI's envelope.

OpenAI's clients read four fields: `message`, `type`, `param` and a `code` that is a string. Engines
answer with numbers for codes (vLLM, llama-server), a bare string (sd-server, Ollama's own API),
FastAPI's ``{"detail": …}``, Anthropic's ``{"type": "error", …}``, or text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from schemas import errors
from schemas.api.hints import is_hint
from schemas.frames import End
from schemas.nodes import Ignored, ServedModel
from workers.engines.base import Sink

JSON = "application/json"
TYPE = "invalid_request_error"

_TOO_LONG = re.compile(
    r"maximum context length"  # vLLM
    r"|exceeds the (available )?context (size|length)"  # llama-server; Ollama
    r"|longer than the context length",  # Ollama without context shift
    re.IGNORECASE,
)
_NO_MODEL = re.compile(r"\bmodel\b.*(not found|does not exist)", re.IGNORECASE | re.DOTALL)


class Refusal(Exception):
    """The request cannot be served as it is. `source`: who refuses it, ``engine`` or ``worker``.

    `extra`: further fields of the engine's error object, for the client. `kind`: its `type`, if
    clients look at the engine's own.
    """

    kind = ""

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
            "type": self.kind or (TYPE if self.status < 500 else errors.EngineFailed.type),
            "param": self.param,
            "code": self.code,
            "source": self.source,
        }
        return orjson.dumps({"error": error})

    def answer(self, sink: Sink) -> End:
        """Send the refusal to the client; it costs no tokens."""
        sink.start(self.status, JSON)
        sink.data(self.json())
        return End(0, 0, 0)


def passed_over(model: ServedModel, feature: str, request: Mapping[str, Any]) -> list[Ignored]:
    """The fields that `request` uses and `model` would ignore at this endpoint."""
    return [
        each
        for each in model.ignores
        if (not each.at or feature in each.at) and each.wanted(request)
    ]


def refuse_ignored(engine: str, found: Iterable[Ignored], feature: str) -> None:
    """Raises Refusal that names the first field which the engine would ignore silently, unless it
    is a hint at this endpoint: the ingress has warned of those."""
    for each in found:
        if each.tried or is_hint(each.field, feature):
            continue
        message = f"{each.field!r} is not supported by the engine {engine!r}: {each.why}."
        raise Refusal(message, param=each.field, code="unsupported_parameter")


def translate(status: int, body: bytes) -> Refusal:
    """An engine's error answer as a Refusal."""
    found = _error_of(body)
    message = _unwrap(str(found.pop("message", "") or f"The engine answered {status}."))
    param, code = found.pop("param", None), found.pop("code", None)
    found.pop("type", None)  # `Refusal.json` writes OpenAI's; vLLM has a class of Python here
    return Refusal(
        message,
        param=param if isinstance(param, str) else None,
        code=code if isinstance(code, str) and code else _code(status, message, param),
        status=status,
        source="engine",
        extra=found,
    )


def _error_of(body: bytes) -> dict[str, Any]:
    """The error object, whatever its shape; only a `message` if the body holds none."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {"message": body.decode(errors="replace").strip()}
    if not isinstance(found, dict):
        return {"message": str(found)}
    error = found.get("error")
    if isinstance(error, dict):
        return dict(error)
    # sd-server's 500 has `message`, FastAPI `detail`, Ollama's own API a bare string.
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
