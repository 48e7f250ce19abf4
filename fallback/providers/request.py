"""What a job asks of providers; whether that can go to one's model without a loss, and what it
looks like there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from fallback.cost import estimate
from fallback.providers import kinds
from fallback.providers.base import Task
from fallback.providers.kinds import ProviderKind
from fallback.providers.unsupported import HINTS
from schemas import multipart
from schemas.api import endpoints
from schemas.api.base import PLAIN, Api
from schemas.api.chat.request import wants_usage
from schemas.jobs import Job
from schemas.nodes import Ignored

_TALKS = frozenset({kinds.CHAT, kinds.COMPLETIONS})
_CLIENTS_TOOLS = ("custom", "bash_", "text_editor_", "computer_", "memory_")
"""Beginnings of types of tools that clients run, too: OpenAI's, and Anthropic's."""
_LIMITS = endpoints.CHAT.api.limits[::-1]
"""The newer goes before the older."""


class Fit:
    """One model at one endpoint; made once and kept, as the lists are long. `limit`: the name that
    the limit of an answer has there, if it is not that of the model's family."""

    def __init__(self, kind: ProviderKind, model: str, endpoint: str, limit: str = "") -> None:
        self._kind = kind
        self._endpoint = endpoint
        self._model = model
        self._family = kind.family(model)
        self.open = endpoint in self._family.endpoints
        feature = endpoints.WORDS.get(endpoint, "")
        self.path = kind.path(endpoint)
        self.key_header = kind.key_header.get(endpoint, "")
        every = (*self._family.refuses, *kind.refuses)
        self._refuses = tuple(each for each in every if not each.at or feature in each.at)
        tops = {each.field.partition(".")[0] for each in self._refuses}
        self._tops = frozenset(tops)
        self._drops = self._family.drops | kind.drops | HINTS
        self._limit = (limit or self._family.limit) if endpoint in _TALKS else ""
        self.api = endpoints.APIS.get(endpoint, PLAIN)
        self._touched = frozenset((*tops, *self._drops, *_LIMITS))

    def unfit(self, task: Task) -> str:
        """Why not; "" if it can."""
        if not self.open:
            return f"{self._model} has no {self._endpoint} there"
        request = task.request
        lenient = task.job.lenient
        if not lenient and (each := next(iter(self.passed_over(request)), None)) is not None:
            return f"{each.field!r} would be lost: {each.why}"
        return self._too_many(request) or self._charged_tool(request)

    def passed_over(self, request: Mapping[str, Any]) -> list[Ignored]:
        """What it asks for and would not get."""
        if self._tops.isdisjoint(request):
            return []
        return [each for each in self._refuses if each.wanted(request)]

    def changes(self, task: Task) -> tuple[dict[str, Any], set[str]]:
        """(fields to set, fields to leave out) of the request before it goes there."""
        request = task.request
        changed: dict[str, Any] = {"model": task.model}
        dropped: set[str] = set()
        if not self._touched.isdisjoint(request):
            dropped = {name for name in self._drops if name in request}
            dropped |= {each.field for each in self.passed_over(request)}
            dropped |= {name for name in _LIMITS if request.get(name) == -1}
            given = [request[name] for name in _LIMITS if estimate.limits(request.get(name))]
            if self._limit and given:
                dropped |= {name for name in _LIMITS if name in request and name != self._limit}
                changed[self._limit] = given[0]
        if task.job.stream and self.api.asks_for_usage and not wants_usage(request):
            options = request.get("stream_options") or {}
            changed["stream_options"] = {**options, "include_usage": True}
        if self._endpoint == kinds.RESPONSES and request.get("store") is None:
            # OpenAI keeps them for 30 days unless told otherwise; nobody could read them from here.
            changed["store"] = False
        return changed, dropped

    def _too_many(self, request: Mapping[str, Any]) -> str:
        n = request.get("n")
        if self._endpoint in _TALKS and isinstance(n, int) and n > self._kind.choices:
            return f"'n' is at most {self._kind.choices} there"
        given = request.get("input")
        if self._endpoint == kinds.EMBEDDINGS and isinstance(given, list):
            texts = bool(given) and not isinstance(given[0], int)
            if texts and len(given) > self._kind.batch:
                return f"'input' has more than {self._kind.batch} texts"
        return ""

    def _charged_tool(self, request: Mapping[str, Any]) -> str:
        own = self.api.own_tools
        for tool in (request.get("tools") or ()) if own else ():
            kind = tool.get("type") if isinstance(tool, Mapping) else None
            if kind not in own and not str(kind).startswith(_CLIENTS_TOOLS):
                return f"a tool of type {kind!r} is charged beside the tokens"
        return ""


def request_of(job: Job, body: bytes) -> tuple[dict[str, Any], bytes]:
    """The JSON object of the job's body, or the fields of a form, and the body. The ingress has
    checked it. An answer without a limit gets one: the worst case is what it is reserved for. One
    that was begun is the last message, and counts."""
    kind = job.content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return _form(multipart.parse(body, job.content_type)), body
    request: dict[str, Any] = orjson.loads(body)
    api = endpoints.APIS.get(job.endpoint, PLAIN)
    if api.limits and not any(estimate.limits(request.get(name)) for name in api.limits):
        _limit(request, api)
        body = orjson.dumps(request)
    if job.begun is not None:
        tokens, text = job.begun
        for name in filter(lambda name: estimate.limits(request.get(name)), estimate.LIMITS):
            request[name] = max(1, request[name] - tokens)
        if text:
            said = {"role": "assistant", "content": text}
            request[api.prompt] = [*request[api.prompt], said]
        body = orjson.dumps(request)
    return request, body


def _limit(request: dict[str, Any], api: Api) -> None:
    """Whoever asks for no limit (-1, as llama-server knows it) does not mean the usual one."""
    unsaid = request.get(api.limits[0]) is None
    for name in estimate.LIMITS:
        if not estimate.limits(request.get(name)):
            request.pop(name, None)
    request[api.limits[0]] = (unsaid and api.usual_limit) or estimate.OUTPUT_TOKENS


def _form(parts: Iterable[multipart.Part]) -> dict[str, Any]:
    """Texts, and for each name of uploads a list of their bytes: what they may cost depends on
    their length and number."""
    found: dict[str, Any] = {}
    for part in parts:
        if part.filename is None:
            found[part.name] = part.content.decode(errors="replace")
        else:
            found.setdefault(part.name, []).append(part.content)
    return found


def continued(request: Mapping[str, Any], way: str) -> dict[str, Any]:
    """The fields to set of a chat whose last message, the assistant's, is to be gone on from.

    There are three ways, each with its users: it goes without saying ("last": Groq, OpenRouter,
    llama-server), the message says so ("prefix": DeepSeek, Mistral), or the request does ("flag":
    vLLM).
    """
    *before, last = request["messages"]
    if last.get("role") != "assistant":  # nothing was said yet
        return {}
    if way == "prefix":
        return {"messages": [*before, {**last, "prefix": True}]}
    if way == "flag":
        return {"continue_final_message": True, "add_generation_prompt": False}
    return {}
