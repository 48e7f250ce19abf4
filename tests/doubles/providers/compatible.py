"""Providers with OpenAI's API under their own address, and their differences.

From the documentation of OpenRouter (streaming, errors and debugging), Groq (API reference, rate
limits), and Together (OpenAI compatibility).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from aiohttp import web

from tests.doubles.base import document
from tests.doubles.providers import words
from tests.doubles.providers.base import EXCHANGE, ident
from tests.doubles.providers.chat import Dialect, Told
from tests.doubles.providers.faults import Refused
from tests.doubles.providers.openai import OpenAI
from tests.doubles.providers.record import Exchange


class Compatible(OpenAI):
    """Any server with OpenAI's endpoints and no quirks; `models` says which it has."""

    name: ClassVar[str] = "compatible"
    known: ClassVar[Mapping[str, str]] = {"some-model": "some-model", "embedder": "embedder"}
    dialect: ClassVar[Dialect] = Dialect(details=False)

    def dressing(self, exchange: Exchange) -> Mapping[str, str]:
        return {"x-request-id": ident("req_", 12)}


def _priced(usage: dict[str, Any]) -> dict[str, Any]:
    """A dollar the million tokens."""
    cost = usage["total_tokens"] / 1_000_000
    details = {"upstream_inference_cost": None}
    return {**usage, "cost": cost, "is_byok": False, "cost_details": details}


class OpenRouter(Compatible):
    """A comment keeps the connection warm, the usage always comes and has a cost, and an error in
    the middle is a chunk whose finish reason is "error"."""

    name: ClassVar[str] = "openrouter"
    prefix: ClassVar[str] = "/api/v1"
    known: ClassVar[Mapping[str, str]] = {
        name: name for name in ("openai/gpt-4o-mini", "meta-llama/llama-3.3-70b-instruct")
    }
    dialect: ClassVar[Dialect] = Dialect(
        prefix="gen-",
        extra={"provider": "Simulated"},
        metering="last",
        heartbeat=b": OPENROUTER PROCESSING\n\n",
        opening=False,
        meter=_priced,
    )

    def unauthorized(self, found: str | None) -> Refused:
        return Refused(401, "No auth credentials found" if found is None else "User not found.")

    def fault(self, refused: Refused, model: str) -> dict[str, Any]:
        told = {
            400: f"{model} is not a valid model ID",
            402: "Insufficient credits. Add more to continue.",
            429: "Rate limit exceeded",
            502: "Provider returned error",
            503: "No allowed providers are available for the selected model.",
        }
        status = 400 if refused.code == "model_not_found" else refused.status
        message = refused.message or told.get(status, "Internal Server Error")
        return {"message": message, "code": status}

    def error(self, refused: Refused, exchange: Exchange) -> web.Response:
        response = super().error(refused, exchange)
        status = 400 if refused.code == "model_not_found" else refused.status
        response.set_status(status)
        response.headers.popall("retry-after-ms", None)
        return response

    def _event(self, model: str) -> Any:
        def told(refused: Refused) -> dict[str, Any]:
            choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
            return {
                "id": ident("gen-"),
                "object": "chat.completion.chunk",
                "created": int(time.time()),
                "model": model,
                "provider": "Simulated",
                "error": {"code": refused.code or "server_error", "message": "Provider failed"},
                "choices": [{**choice, "native_finish_reason": "error"}],
            }

        return told


def _timed(usage: dict[str, Any]) -> dict[str, Any]:
    times = {"queue_time": 0.001, "prompt_time": 0.002, "completion_time": 0.003}
    return {**usage, **times, "total_time": 0.005}


class Groq(Compatible):
    """`x_groq` in the first chunk and, with the usage, in the last; errors without `param`."""

    name: ClassVar[str] = "groq"
    prefix: ClassVar[str] = "/openai/v1"
    known: ClassVar[Mapping[str, str]] = {
        name: name for name in ("llama-3.1-8b-instant", "llama-3.3-70b-versatile")
    }
    dialect: ClassVar[Dialect] = Dialect(
        extra={"system_fingerprint": "fp_groq", "service_tier": "on_demand"},
        details=False,
        meter=_timed,
        first=lambda: {"x_groq": {"id": ident("req_", 13)}},
        last=lambda usage: {"x_groq": {"id": ident("req_", 13), "usage": usage}},
    )

    def unauthorized(self, found: str | None) -> Refused:
        return Refused(401, "Invalid API Key", code="invalid_api_key")

    def fault(self, refused: Refused, model: str) -> dict[str, Any]:
        found = super().fault(refused, model)
        return {name: value for name, value in found.items() if name != "param"}

    def error(self, refused: Refused, exchange: Exchange) -> web.Response:
        response = super().error(refused, exchange)
        response.headers.popall("retry-after-ms", None)
        return response

    def dressing(self, exchange: Exchange) -> Mapping[str, str]:
        own = OpenAI.dressing(self, exchange)
        kept = {k: v for k, v in own.items() if not k.startswith("openai-")}
        return {**kept, "x-groq-region": "fra"}


class Together(Compatible):
    """The usage comes with the finish reason, whether it is asked for or not."""

    name: ClassVar[str] = "together"
    known: ClassVar[Mapping[str, str]] = {
        name: name for name in ("meta-llama/Llama-3.3-70B-Instruct-Turbo",)
    }
    dialect: ClassVar[Dialect] = Dialect(prefix="o", metering="last", details=False, opening=False)

    async def _models(self, request: web.Request) -> web.Response:
        """A bare array, not a list object."""
        request[EXCHANGE].model = ""
        return document([self.card(name) for name in self.models])


class Continuing(Compatible):
    """One that goes on from an assistant message at the end, if it is told to in its `way`: "last"
    (it goes without saying), "prefix" (the message says so) or "flag" (the request does)."""

    name: ClassVar[str] = "continuing"
    way: str = "last"

    def compose(self, asked: Mapping[str, Any]) -> Told:
        told = super().compose(asked)
        last = asked["messages"][-1]
        meant = {
            "last": True,
            "prefix": last.get("prefix") is True,
            "flag": asked.get("continue_final_message") is True
            and asked.get("add_generation_prompt") is False,
        }
        if last.get("role") != "assistant" or not meant[self.way]:
            return told
        return self.go_on(asked, words.text_of(last.get("content")))

    def go_on(self, asked: Mapping[str, Any], begun: str) -> Told:
        """The limit is of the rest."""
        limits = ("max_tokens", "max_completion_tokens")
        limit = next((asked[name] for name in limits if asked.get(name)), None)
        free = {name: value for name, value in asked.items() if name not in limits}
        told = super().compose(free)
        pieces, reason, _ = words.cut_to(words.continued(told.pieces, begun), limit, None)
        return replace(told, pieces=pieces, reason=reason)
