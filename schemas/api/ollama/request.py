"""Ollama's requests: what they must look like, and the chat, text completion or embeddings that
each of them is put as."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Required

from pydantic import Field
from typing_extensions import TypedDict

from schemas.api.endpoints import CHAT, COMPLETIONS, EMBEDDINGS, Endpoint
from schemas.api.ollama import memory, options
from schemas.api.ollama.history import History
from schemas.api.ollama.memory import Turn
from schemas.api.ollama.options import Options
from schemas.api.shape import Model, Request, Shape, invalid
from schemas.errors import UnsupportedParameter

_KeepAlive = str | int | float


class Generation(TypedDict, total=False):
    """What chats and texts have in common."""

    model: Model | None
    stream: bool | None
    format: str | dict[str, Any] | None
    options: Options | None
    keep_alive: _KeepAlive | None
    think: bool | Literal["low", "medium", "high", "max", ""] | None
    truncate: bool | None
    shift: bool | None
    logprobs: bool | None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None
    _debug_render_only: bool | None


class Message(TypedDict, total=False):
    role: Required[str]
    content: str | None
    thinking: str | None
    images: list[str] | None
    tool_calls: list[dict[str, Any]] | None
    tool_name: str | None
    tool_call_id: str | None


class ChatRequest(Generation, total=False):
    messages: list[Message] | None
    tools: list[dict[str, Any]] | None


class GenerateRequest(Generation, total=False):
    prompt: str | None
    suffix: str | None
    system: str | None
    template: str | None
    raw: bool | None
    images: list[str] | None
    context: list[int] | None


class EmbedRequest(TypedDict, total=False):
    model: Model | None
    input: str | list[str] | None
    truncate: bool | None
    dimensions: Annotated[int, Field(ge=0, le=2**20)] | None
    options: dict[str, Any] | None
    keep_alive: _KeepAlive | None


class EmbeddingRequest(TypedDict, total=False):
    model: Model | None
    prompt: str | None
    options: dict[str, Any] | None
    keep_alive: _KeepAlive | None


class ShowRequest(TypedDict, total=False):
    """`name`: the older word for `model`."""

    model: Model | None
    name: Model | None
    verbose: bool | None


def _check(request: Request) -> None:
    if isinstance(wanted := request.get("format"), str) and wanted not in ("", "json"):
        raise invalid("format", "'json' or a JSON schema is needed")
    for name in ("_debug_render_only", "template"):
        if request.get(name):
            why = f"{name!r} has no effect: who runs the engine says which template a model has."
            raise UnsupportedParameter(f"{why} Leave it out.", param=name)


def _check_prompt(request: Request) -> None:
    for name in ("system", "images"):
        if request.get("raw") and request.get(name):
            raise invalid(name, "it cannot be sent with 'raw', as the prompt is all there is")


CHAT_SHAPE = Shape(ChatRequest, _check)
GENERATE_SHAPE = Shape(GenerateRequest, _check, _check_prompt)
EMBED_SHAPE = Shape(EmbedRequest)
EMBEDDING_SHAPE = Shape(EmbeddingRequest)
SHOW_SHAPE = Shape(ShowRequest, more="system template options")

SAMPLING = frozenset(options.NAMES.values())
"""The fields that options become. One that would do nothing at the engine is left out and named in
a warning, and not refused: Ollama itself passes over options that it does not know."""
_EFFORTS: Mapping[Any, str] = {True: "medium", False: "none", "max": "high"}
"""For Ollama, to think without a level is to think at the medium one."""
_LEFT_OUT = ("truncate", "shift")


@dataclass(frozen=True, slots=True)
class Put:
    """A request as another endpoint has it. `unused`: what to say of fields without effect. `said`:
    the turns that the answer's `context` begins with; None if the answer has none."""

    endpoint: Endpoint
    request: Request
    unused: list[str] = field(default_factory=list)
    said: list[Turn] | None = None


def is_empty(request: Request, said: str) -> bool:
    """Whether it only asks to have the model loaded, or unloaded. `said`: the field that holds what
    the model is to read. Fields of other endpoints do not count: they pass unread."""
    return not request.get(said)


def chat(request: Request) -> Put:
    fields, unused = _common(request, CHAT_SHAPE)
    if tools := request.get("tools"):
        fields["tools"] = [{"type": "function", **tool} for tool in tools]
    messages = History().put(request["messages"])
    return Put(CHAT, {**fields, **_chat_alone(request), "messages": messages}, unused)


def generate(request: Request, chats: bool) -> Put:
    """`chats`: the model has chats. A prompt that is to reach the model as it is, or between two
    texts, is a text completion, and so is any prompt of a model without chats."""
    fields, unused = _common(request, GENERATE_SHAPE)
    system, suffix = request.get("system"), request.get("suffix")
    if chats and not (request.get("raw") or suffix):
        said = _remembered(request, unused)
        first = [{"role": "system", "content": system}] if system else []
        before = [{"role": role, "content": text} for role, text in said]
        user = {"role": "user", "content": request["prompt"], "images": request.get("images")}
        fields |= {**_chat_alone(request), "messages": History().put([*first, *before, user])}
        return Put(CHAT, fields, unused, [*said, ("user", request["prompt"])])
    if request.get("context"):
        unused.append("context has no effect: only chats have it")
    if request.get("images"):
        raise invalid("images", "only the prompt of a chat can have them")
    if wanted := response_format(request.get("format")):
        fields["response_format"] = wanted
    prompt = f"{system}\n\n{request['prompt']}" if system else request["prompt"]
    more = {"suffix": suffix} if suffix else {}
    if request.get("think"):
        unused.append("think has no effect: only chats have it")
    if request.get("logprobs"):  # a text completion takes the number of alternatives here
        fields["logprobs"] = request.get("top_logprobs") or 0
    return Put(COMPLETIONS, {**fields, **more, "prompt": prompt}, unused)


def _remembered(request: Request, unused: list[str]) -> list[Turn]:
    """The turns in the request's context. One that was made elsewhere is said to have no effect."""
    context = request.get("context")
    if context and (found := memory.read(context)) is not None:
        return found
    if context:
        unused.append("context has no effect: it is not one of an answer of this service")
    return []


def embed(request: Request, said: str) -> Put:
    """`said`: the field that holds the input."""
    fields: dict[str, Any] = {n: request[n] for n in ("model", "keep_alive") if n in request}
    if request.get("dimensions"):
        fields["dimensions"] = request["dimensions"]
    unused = options.unused(request.get("options")) + _told(request, EMBED_SHAPE, said)
    return Put(EMBEDDINGS, {**fields, "input": request[said]}, unused)


def _common(request: Request, shape: Shape) -> tuple[dict[str, Any], list[str]]:
    """The fields that chats and text completions share. Streams tell their tokens, too."""
    fields, unused = options.put(request.get("options"))
    fields |= {name: request[name] for name in ("model", "keep_alive") if name in request}
    if streams(request):
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
    return fields, unused + _told(request, shape)


def streams(request: Request) -> bool:
    return request.get("stream") is not False


def _chat_alone(request: Request) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if wanted := response_format(request.get("format")):
        found["response_format"] = wanted
    if (think := request.get("think")) not in (None, ""):
        found["reasoning_effort"] = _EFFORTS.get(think, think)
    if request.get("logprobs"):
        found |= {"logprobs": True, "top_logprobs": request.get("top_logprobs") or 0}
    return found


def response_format(wanted: str | Mapping[str, Any] | None) -> dict[str, Any] | None:
    if not wanted:
        return None
    if wanted == "json":
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": wanted}}


def _told(request: Request, shape: Shape, *more: str) -> list[str]:
    """What to say of fields that are passed over: the unknown ones, and those that ask to have a
    prompt cut that is too long."""
    names = [name for name in _LEFT_OUT if request.get(name)]
    cut = [f"{name} has no effect: what is too long is refused, and never cut" for name in names]
    unknown = sorted(set(request) - shape.names - set(more))
    return [*cut, *(f"{name[:64]!r} is not known to Ollama's API" for name in unknown)]
