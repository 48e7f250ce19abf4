"""Promises of the fabric itself. Every probe raises Unmet or Partial if a promise does not hold."""

from __future__ import annotations

import gzip
import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from deploy.compat.rows import SLOW, row
from deploy.compat.samples import clip
from deploy.compat.target import CHAT, Partial, Target, Unmet, brief, chat_body, granted, need
from deploy.compat.transport import Answer, Ask
from schemas import hosts, multipart
from schemas.api import endpoints
from schemas.multipart import Part

LENIENT = {"x-headrace-lenient": "true"}
_MODELS = "/v1/models"
_NOBODY = "no-such-model-as-this"
_SMALLEST: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": (CHAT, chat_body("Hi.", max_tokens=1)),
    "completions": (endpoints.COMPLETIONS.path, {"prompt": "Hi.", "max_tokens": 1}),
    "embeddings": (endpoints.EMBEDDINGS.path, {"input": "Hi."}),
    "rerank": (endpoints.RERANK.path, {"query": "Hi.", "documents": ["Hi.", "Ho."]}),
    "moderations": (endpoints.MODERATIONS.path, {"input": "Hi."}),
    "images": (endpoints.IMAGES.path, {"prompt": "A dot.", "size": "64x64"}),
}
"""The smallest request of each kind of model, by the feature that its card names."""
_VALUES: dict[str, Any] = {
    "web_search_options": {"search_context_size": "low"},
    "functions": [{"name": "f", "parameters": {}}],
    "logit_bias": {"1": 1},
    "audio": {"voice": "alloy", "format": "wav"},
    "dimensions": 7,
    "best_of": 2,
    "background": "transparent",
    "stream": True,
}
"""Fields that an engine may ignore, each with a value that asks for something."""

_HINTS: dict[str, Any] = {
    "reasoning_effort": "low",
    "verbosity": "low",
    "service_tier": "priority",
    "store": True,
    "prompt_cache_key": "compat",
}


@row("GET /v1/models", "the model is in the list, and at its own path")
async def models(target: Target) -> str:
    listed = granted(await target.get(_MODELS)).json
    entries = {each["id"]: each for each in listed["data"]}
    need(listed["object"] == "list" and target.model in entries, "the model is not in the list")
    entry = entries[target.model]
    need(entry["object"] == "model" and entry["owned_by"], "its entry is not one of OpenAI's")
    need(isinstance(entry["created"], int), f"created is {entry['created']!r}")
    shown = granted(await target.get(f"{_MODELS}/{target.model}")).json
    need(shown == entry, "by its name it looks different")
    return f"listed with {len(entries) - 1} others, and shown by its name"


@row("API keys", "the right key opens, a wrong one and none do not", whole=True)
async def keys(target: Target) -> str:
    need((await target.get(_MODELS)).status == 200, "the key that was given is refused")
    wrong = f"sk-wrong-{secrets.token_hex(12)}"
    for key, what in (("", "no key"), (wrong, "a wrong key")):
        for answer in (await target.get(_MODELS, key=key), await target.post(CHAT, {}, key=key)):
            need(answer.status == 401, f"{what} gets {answer.status}, not 401")
            need(answer.json["error"]["code"] == "invalid_api_key", f"{what}: {answer.body!r}")
    return "the right key gets 200, a wrong one and none get 401 invalid_api_key"


@row("several models at one address", "each listed model answers by its own name", SLOW, whole=True)
async def several_models(target: Target) -> str:
    """Each listed name is answered; a name that is not listed gets a 404."""
    found = granted(await target.get(_MODELS)).json["data"]
    listed = [entry for entry in found if entry["headrace"]["nodes"]]  # others are providers'
    for entry in listed:
        await _smallest(target, entry["id"], tuple(entry["headrace"]["features"]))
    answer = await target.post(CHAT, {**chat_body("Hi."), "model": _NOBODY})
    need(answer.status == 404, f"an unknown model gets {answer.status}, not 404")
    if len(listed) < 2:
        raise Partial("one model is served now; it answered by its name, and no other name did")
    return f"{len(listed)} models, each of which answered by its own name"


@row(
    "reachable from elsewhere",
    "a node answered that nobody can dial, and the address is not of this machine alone",
    SLOW,
)
async def reachable(target: Target) -> str:
    """Workers dial out, so the probe checks which node answered and whether clients elsewhere can
    reach this ingress."""
    answer = await _smallest(target, target.model, target.facts.features)
    node = answer.headers.get("x-headrace-served-by", "").removeprefix("node:")
    need(node in target.facts.nodes, "the answer does not tell which node it came from")
    seen = f"node {node} answered over the connection that its worker had dialled to the broker"
    if hosts.is_loopback(target.facts.listens):
        raise Partial(
            f"{seen}; but this ingress itself listens on {target.facts.listens} alone: start it "
            "with --host, or put a proxy before it"
        )
    return seen


@row("request bodies in gzip", "answered; a coding that is not known gets 415", whole=True)
async def packed(target: Target) -> str:
    asked = _request(target.model, target.facts.features)
    zipped = replace(asked, body=gzip.compress(asked.body), headers={"content-encoding": "gzip"})
    answer = granted(await target.send(zipped))
    odd = await target.send(replace(asked, headers={"content-encoding": "br"}))
    need(odd.status == 415, f"another coding gets {odd.status}, not 415")
    return f"a packed body gets {answer.status}; another coding gets 415"


@row("errors in OpenAI's envelope", "six faults, each a 4xx with its cause")
async def errors(target: Target) -> str:
    """A fault is a 4xx in OpenAI's envelope that names the field, also if it should stream."""
    wrong = chat_body("Hi.", max_tokens="five")
    cases = {
        "a wrong type": (await target.post(CHAT, wrong), 400),
        "a wrong type in a stream": (await target.post(CHAT, {**wrong, "stream": True}), 400),
        "no messages": (await target.post(CHAT, {}), 400),
        "no JSON": (await target.send(Ask("POST", CHAT, b"{")), 400),
        "an unknown model": (await target.post(CHAT, {**chat_body("Hi."), "model": _NOBODY}), 404),
        "an unknown path": (await target.get("/v1/no/such/path"), 404),
    }
    for what, (answer, status) in cases.items():
        need(answer.status == status, f"{what} gets {answer.status}, not {status}")
        error = answer.json["error"]
        need(all(error.get(name) for name in ("message", "type", "code")), f"{what}: {error}")
        need("param" in error, f"{what}: the error has no param")
    need(cases["a wrong type"][0].json["error"]["param"] == "max_tokens", "param is not the field")
    return f"{len(cases)} faults, each a 4xx with message, type, param and code"


@row("field that would do nothing: refused", "400 with its name, or a warning for a lenient client")
async def nothing_silent(target: Target) -> str:
    """No request may succeed while one of its fields silently does nothing."""
    features = target.facts.features
    ignored = target.facts.ignores.get(_kind(features), frozenset())
    name = next((name for name in _VALUES if name in ignored), "")
    if not name:
        return "its engines name no field that they would pass over"
    asked = _request(target.model, features, {name: _VALUES[name]})
    answer = await target.send(asked)
    need(answer.status == 400, f"{name} would do nothing, and gets {answer.status}")
    error = answer.json["error"]
    need((error["code"], error["param"]) == ("unsupported_parameter", name), brief(str(error)))
    lenient = await target.send(replace(asked, headers=LENIENT))
    need(lenient.status == 200, f"with x-headrace-lenient it still gets {lenient.status}")
    warned = lenient.headers.get("x-headrace-warning", "")
    need(name in warned, "with x-headrace-lenient it passes without a warning")
    return f"{name} would do nothing: 400 unsupported_parameter, or a warning if lenient"


@row("hints that would do nothing: taken", "200, and a warning that names each")
async def hints(target: Target) -> str:
    """Half of all clients send such fields by default."""
    answer = granted(await target.post(CHAT, chat_body("Hi.", max_tokens=1, **_HINTS)))
    warned = answer.headers.get("x-headrace-warning", "")
    idle = [name for name in _HINTS if name in target.facts.ignores.get("chat", ())]
    silent = ", ".join(name for name in idle if name not in warned)
    need(not silent, f"{silent} would do nothing, and no warning says so")
    if not idle:
        return "its engines name no hint that they would pass over"
    return f"{', '.join(idle)}: taken, and the warning names them"


@row("x-request-id comes back", "the client's own, else a new one", whole=True)
async def request_id(target: Target) -> str:
    name = f"compat-{secrets.token_hex(6)}"
    for answer in (
        await target.get(_MODELS, headers={"x-request-id": name}),
        await target.post(CHAT, {}, headers={"x-request-id": name}),
    ):
        need(answer.headers.get("x-request-id") == name, "the id that was sent does not come back")
    need((await target.get(_MODELS)).headers.get("x-request-id"), "without one, none is made")
    return "the client's id comes back, on errors too; without one there is a new one"


async def _smallest(target: Target, model: str, features: tuple[str, ...]) -> Answer:
    """The answer of `model` to a request that it understands. Raises Unmet."""
    answer = await target.send(_request(model, features))
    if answer.status != 200:
        raise Unmet(f"{model}: {answer.status} {brief(answer.body.decode(errors='replace'))}")
    if answer.headers.get("content-type", "").startswith("application/json"):
        named = answer.json.get("model", model)
        need(named == model, f"{model} answered as {named!r}")
    return answer


def _kind(features: tuple[str, ...]) -> str:
    """The feature that probes use to ask a model: hearing, or the one with the smallest request."""
    if "transcriptions" in features:
        return "transcriptions"
    return next((each for each in _SMALLEST if each in features), "chat")


def _request(model: str, features: tuple[str, ...], more: Mapping[str, Any] | None = None) -> Ask:
    kind = _kind(features)
    asked = {"model": model, **(more or {})}
    if kind == "transcriptions":
        sound = Part("file", clip(), "speech.mp3", "audio/mpeg")
        fields = [Part(name, _field(value)) for name, value in asked.items()]
        return Ask("POST", endpoints.TRANSCRIPTIONS.path, *multipart.encode([*fields, sound]))
    path, body = _SMALLEST[kind]
    return Ask("POST", path, orjson.dumps({**body, **asked}))


def _field(value: Any) -> bytes:
    """A value as a part of a form."""
    return value.encode() if isinstance(value, str) else orjson.dumps(value)
