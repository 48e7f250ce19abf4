"""Decides whether a refusal is the fault of the client, of the provider, or of our account there.

A refusal for the client's fault is an answer; the others are faults. OpenAI, Google, Anthropic and
Cloudflare document these statuses. The error object comes in OpenAI's shape, in a list (Google's
compatible surface), under ``errors`` (Cloudflare), or in Anthropic's shape.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

import orjson

from fallback.providers.base import ProviderFault, Reason
from fallback.providers.secret import Secret
from workers.engines.openai.refusal import Refusal, translate

_BUSY = frozenset({408, 409, 425, 429, 498, 503, 529})
"""498: Groq's "flex tier capacity exceeded". 529: Anthropic's "overloaded"."""
_ACCOUNT = frozenset({401, 402, 403, 407})
_BUSY_CODES = frozenset(
    {
        *("overloaded_error", "overloaded", "rate_limit_error", "rate_limit_exceeded"),
        *("RESOURCE_EXHAUSTED", "UNAVAILABLE", "engine_overloaded", "slow_down"),
    }
)
_ACCOUNT_CODES = frozenset(
    {
        *("insufficient_quota", "billing_hard_limit_reached", "billing_not_active"),
        *("billing_error", "invalid_api_key", "account_deactivated", "authentication_error"),
        *("permission_error", "UNAUTHENTICATED", "PERMISSION_DENIED", "3036", "10000"),
    }
)
"""3036: Workers AI's daily allocation is used up; 10000: Cloudflare's authentication error."""
_ACCOUNT_WORDS = re.compile(r"API key not valid|API key expired|credit balance is too low", re.I)
"""Google and Anthropic say this with the status 400."""
_NO_MODEL = frozenset({"model_not_found", "5007", "7003", "7000", "NOT_FOUND"})
"""5007: Workers AI has no such model; 7000 and 7003: Cloudflare has no such route or account."""
_MODEL_WORDS = re.compile(r"^model: |\bmodels?/\S+ is not found|\bmodel\b.*(not exist|not found)")
_DELAY = re.compile(r"(\d+(?:\.\d+)?)s")
LONGEST = 3600.0
"""Most seconds for which a provider can ask to be left alone."""


def judge(
    name: str, status: int, headers: Mapping[str, str], body: bytes, secret: Secret
) -> ProviderFault | Refusal:
    """What to make of an answer of the provider `name` with a `status` other than 200."""
    error = error_of(body, secret)
    reason = reason_of(status, error)
    if reason is not None:
        return fault(name, status, error, reason, retry_after(headers, error))
    refusal = translate(status, orjson.dumps({"error": error}))
    refusal.source = f"provider:{name}"
    return refusal


def fault(
    name: str,
    status: int,
    error: Mapping[str, Any],
    reason: Reason,
    wait: float | None = None,
) -> ProviderFault:
    said = str(error.get("message") or "")[:500]
    if reason == "key":  # the message may quote the key: only its code goes on
        said = next(iter(_codes(error)), "")
        return ProviderFault(f"{name} does not take our account: {status} {said}".strip(), reason)
    hint = ": it may not know the model, or its url is wrong" if status in (404, 405) else ""
    return ProviderFault(f"{name} answered {status}{hint}", reason, retry_after=wait, detail=said)


def reason_of(status: int, error: Mapping[str, Any]) -> Reason | None:
    """Why the provider refused; None if the request itself is at fault."""
    codes, said = _codes(error), str(error.get("message") or "")
    # First, as OpenAI says 429 also when the quota of our account is used up.
    if status in _ACCOUNT or not codes.isdisjoint(_ACCOUNT_CODES) or _ACCOUNT_WORDS.search(said):
        return "key"
    if status in _BUSY or not codes.isdisjoint(_BUSY_CODES):
        return "busy"
    if _misconfigured(status, codes, error, said):
        return "absent"
    if status < 400 or status >= 500:  # below 400: a redirect, which is not followed
        return "failed"
    return None


def _misconfigured(status: int, codes: set[str], error: Mapping[str, Any], said: str) -> bool:
    """Whether the provider lacks the model or path: our configuration's fault, not the client's."""
    if not codes.isdisjoint(_NO_MODEL):
        return True
    # With a `param` it is about the request, unless its words are about the model.
    return status in (404, 405) and (error.get("param") is None or bool(_MODEL_WORDS.search(said)))


def _codes(error: Mapping[str, Any]) -> set[str]:
    found = (error.get(name) for name in ("code", "type", "status"))
    return {str(each) for each in found if each}


def error_of(body: bytes, secret: Secret) -> dict[str, Any]:
    """The error object, whatever its shape, without secrets."""
    text = secret.scrub(body.decode("utf-8", "replace"))  # before parsing: no field is forgotten
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {"message": text.strip()[:500]}
    if isinstance(found, list):
        found = found[0] if found else {}
    if not isinstance(found, dict):
        return {"message": str(found)[:500]}
    several = found.get("errors")
    error = several[0] if isinstance(several, list) and several else found.get("error")
    if isinstance(error, dict):
        return dict(error)
    told = error or found.get("message") or found.get("detail")
    return {"message": told if isinstance(told, str) else text[:500]}


def retry_after(headers: Mapping[str, str], error: Mapping[str, Any]) -> float | None:
    """Seconds until there may be room again, from the headers or from Google's error details."""
    said = headers.get("retry-after")
    ways = (
        _seconds(headers.get("retry-after-ms"), 1000.0),
        _seconds(said, 1.0),
        _until(said),
        _detailed(error.get("details")),
    )
    found = next((each for each in ways if each is not None), None)  # 0 is an answer
    return None if found is None else min(max(0.0, found), LONGEST)


def _seconds(text: str | None, unit: float) -> float | None:
    try:
        return float(text or "") / unit
    except ValueError:
        return None


def _until(text: str | None) -> float | None:
    try:
        return parsedate_to_datetime(text or "").timestamp() - time()
    except ValueError:
        return None


def _detailed(details: Any) -> float | None:
    """Google's RetryInfo."""
    for each in details if isinstance(details, list) else ():
        delay = each.get("retryDelay") if isinstance(each, dict) else None
        if isinstance(delay, str) and (found := _DELAY.fullmatch(delay)):
            return float(found[1])
    return None
