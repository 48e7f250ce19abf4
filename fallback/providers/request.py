"""A job's request: whether it can go to a provider's model without a loss, and how it is changed
for that model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import orjson

from fallback.cost import pricing
from fallback.providers import kinds
from fallback.providers.base import Task
from fallback.providers.kinds import ProviderKind
from fallback.providers.unsupported import COMPUTED
from schemas import multipart
from schemas.api import endpoints, piecewise, prompts
from schemas.api.base import PLAIN, Api, wants_usage
from schemas.api.hints import is_hint
from schemas.api.piecewise_write import dump
from schemas.jobs import Job
from schemas.nodes import Ignored
from workers.engines.openai.request_body import aside

_PROMPTED = frozenset({kinds.COMPLETIONS, kinds.EMBEDDINGS})
_TALKS = frozenset({kinds.CHAT, kinds.COMPLETIONS})
_CLIENTS_TOOLS = ("custom", "bash_", "text_editor_", "computer_", "memory_")
"""How the types of further tools begin that clients run themselves: OpenAI's, and Anthropic's."""
_LIMITS = endpoints.CHAT.api.limits[::-1]
"""The newer name first: where a request has both, it counts."""


class Fit:
    """One model at one endpoint; made once and kept, as the lists are long. `limit`: the provider's
    name for the limit of an answer, if it differs from the one of the model's family."""

    def __init__(self, kind: ProviderKind, model: str, endpoint: str, limit: str = "") -> None:
        self._kind = kind
        self._endpoint = endpoint
        self._model = model
        self._family = kind.family(model)
        self.open = endpoint in self._family.endpoints
        self._feature = feature = endpoints.WORDS.get(endpoint, "")
        self.path = kind.path(endpoint)
        self.key_header = kind.key_header.get(endpoint, "")
        every = (*self._family.refuses, *kind.refuses)
        self._refuses = tuple(each for each in every if not each.at or feature in each.at)
        self._tops = frozenset(each.field.partition(".")[0] for each in self._refuses)
        self._drops = self._family.drops | kind.drops | COMPUTED
        self._limit = (limit or self._family.limit) if endpoint in _TALKS else ""
        self.api = endpoints.APIS.get(endpoint, PLAIN)
        self._touched = self._tops | self._drops | frozenset(_LIMITS)

    def unfit(self, task: Task) -> str:
        """Why the request cannot go to this model; "" if it can."""
        if not self.open:
            return f"{self._model} has no {self._endpoint} there"
        request = task.request
        for each in self.passed_over(request):
            if not (task.job.lenient or is_hint(each.field, self._feature)):
                return f"{each.field!r} would be lost: {each.why}"
        return self._too_many(request) or self._own_form(request) or self._charged_tool(request)

    def lost_hints(self, request: Mapping[str, Any]) -> int:
        """How many hints of the request the model would ignore."""
        return sum(is_hint(each.field, self._feature) for each in self.passed_over(request))

    def passed_over(self, request: Mapping[str, Any]) -> list[Ignored]:
        """The fields that the request sets and the model would ignore."""
        if self._tops.isdisjoint(request):
            return []
        return [each for each in self._refuses if each.wanted(request)]

    def changes(self, task: Task) -> tuple[dict[str, Any], set[str]]:
        """(fields to set, fields to leave out) of the request for this model."""
        request = task.request
        changed: dict[str, Any] = {"model": task.model}
        dropped: set[str] = set()
        if not self._touched.isdisjoint(request):  # most requests have none of these
            dropped = {name for name in self._drops if name in request}
            dropped |= {each.field for each in self.passed_over(request)}
            dropped |= {name for name in _LIMITS if request.get(name) == -1}
            given = [request[name] for name in _LIMITS if pricing.is_limit(request.get(name))]
            if self._limit and given:
                dropped |= {name for name in _LIMITS if name in request and name != self._limit}
                changed[self._limit] = given[0]
        if task.job.stream and self.api.asks_for_usage and not wants_usage(request):
            options = request.get("stream_options") or {}
            changed["stream_options"] = {**options, "include_usage": True}
        if self._endpoint == kinds.RESPONSES and request.get("store") is None:
            # OpenAI keeps answers for 30 days by default, and clients here cannot read them.
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

    def _own_form(self, request: Mapping[str, Any]) -> str:
        if self._endpoint not in _PROMPTED:
            return ""
        where = prompts.own_form(request.get(self.api.prompt), self.api.prompt)
        return where and f"{where!r} has a form of llama-server's own"

    def _charged_tool(self, request: Mapping[str, Any]) -> str:
        own = self.api.own_tools
        for tool in (request.get("tools") or ()) if own else ():
            kind = tool.get("type") if isinstance(tool, Mapping) else None
            if kind not in own and not str(kind).startswith(_CLIENTS_TOOLS):
                return f"a tool of type {kind!r} is charged beside the tokens"
        return ""


async def request_at_leisure(job: Job, body: bytes) -> tuple[dict[str, Any], bytes]:
    """What `request_of` gives, of a large body, for which nobody waits long."""
    if _is_form(job):
        return await aside(body, partial(request_of, job, body))
    request, changed = _bounded(job, await piecewise.load(body))
    return request, await dump(request) if changed else body


def request_of(job: Job, body: bytes) -> tuple[dict[str, Any], bytes]:
    """The JSON object of the job's body, or the fields of a form, and the body. The ingress has
    checked both. If the request sets no limit for the answer, it gets one, as the worst case is
    reserved. The text of an answer that was begun becomes the last message, and its tokens are
    taken off the limit."""
    if _is_form(job):
        return _form(multipart.parse(body, job.content_type)), body
    request, changed = _bounded(job, orjson.loads(body))
    return request, orjson.dumps(request) if changed else body


def _is_form(job: Job) -> bool:
    return job.content_type.partition(";")[0].strip().lower() == "multipart/form-data"


def _bounded(job: Job, request: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """The request with a limit, behind what was begun, and whether it was changed."""
    api = endpoints.APIS.get(job.endpoint, PLAIN)
    unlimited = not any(pricing.is_limit(request.get(name)) for name in api.limits)
    if unlimited and api.limits:
        _set_limit(request, api)
    if job.begun is not None:
        request = api.continued(request, job.begun.text, job.begun.tokens)
    return request, bool(unlimited and api.limits) or job.begun is not None


def _set_limit(request: dict[str, Any], api: Api) -> None:
    """Set a limit: the API's usual one, but `OUTPUT_TOKENS` for a client that asks for no limit
    (-1, as llama-server knows it)."""
    unsaid = request.get(api.limits[0]) is None
    for name in pricing.LIMITS:
        if not pricing.is_limit(request.get(name)):
            request.pop(name, None)
    request[api.limits[0]] = (unsaid and api.usual_limit) or pricing.OUTPUT_TOKENS


def _form(parts: Iterable[multipart.Part]) -> dict[str, Any]:
    """Texts by name, and lists of the uploads' bytes by name: length and number of uploads decide
    what the job may cost."""
    found: dict[str, Any] = {}
    for part in parts:
        if part.filename is None:
            found[part.name] = part.content.decode(errors="replace")
        else:
            found.setdefault(part.name, []).append(part.content)
    return found


def continued(request: Mapping[str, Any], way: str) -> dict[str, Any]:
    """The fields to set so that a chat continues its last message, the assistant's.

    Providers know three ways: the message needs no mark ("last": Groq, OpenRouter, llama-server),
    the message has a mark ("prefix": DeepSeek, Mistral), or the request has one ("flag": vLLM).
    """
    *before, last = request["messages"]
    if last.get("role") != "assistant":  # nothing was said yet
        return {}
    if way == "prefix":
        return {"messages": [*before, {**last, "prefix": True}]}
    if way == "flag":
        return {"continue_final_message": True, "add_generation_prompt": False}
    return {}
