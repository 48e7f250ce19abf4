"""Adds to answers what their API documents and engines leave out.

Responses have all fields that OpenAI's client library requires. The ids of messages begin with
``msg_`` (those of llama-server and vLLM are ids of chats); their thoughts have a signature, an
empty one, and a call begins with an empty input. In the stream of a chat, the content before a call
is null.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from schemas.api import endpoints
from schemas.api.base import Document, Event
from schemas.api.responses import whole
from schemas.jobs import Job
from workers.engines.base import Sink
from workers.engines.openai import parsed
from workers.engines.openai.rewrite import Rewriting
from workers.engines.openai.stream import Filter, says

TOOLS = b'"tools"'
_SEVERAL = b'"n"'
_TEXT_EVENT = b'"response.output_text.'
_DELTA, _DONE = b'"response.output_text.delta"', b'"response.output_text.done"'
_NO_LOGPROBS = b',"logprobs":[]'
_BLOCKS: Mapping[str, Mapping[str, Any]] = {
    "thinking": {"signature": ""},
    "tool_use": {"input": {}},
}
"""By type: the fields of a block that are left out, and what stands for them."""


def with_missing_fields(sink: Sink, job: Job, body: bytes) -> Sink:
    """The Sink to take the place of `sink`. Of chats, only those with `TOOLS` need this."""
    fields: ResponseFields | MessageFields
    match job.endpoint:
        case endpoints.RESPONSES.path:
            sink, fields = TextEvents(sink), ResponseFields(_request(body))
        case endpoints.MESSAGES.path:
            fields = MessageFields(f"msg_{job.id}")
        case endpoints.CHAT.path if job.stream:
            # To look for the bytes first saves nearly every chat from being parsed here.
            n = _request(body).get("n") if says(body, _SEVERAL) else 1
            return CallHead(sink, n if isinstance(n, int) else 1)
        case _:
            return sink
    return Rewriting(sink, fields.change, signs=fields.signs, document=fields.document)


def _request(body: bytes) -> dict[str, Any]:
    """The request; an empty one if the body is none, which the engine then says."""
    try:
        found = parsed.load(body)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


class TextEvents(Filter):
    """A Sink before the Sink, for responses. The events of their texts list log-probabilities, if
    only none. The bytes are replaced without parsing: each token has such an event, and inside a
    text the quotes would be escaped."""

    def data(self, chunk: bytes) -> None:
        if chunk[:1] != b"{" and _TEXT_EVENT in chunk and b'"logprobs"' not in chunk:
            chunk = chunk.replace(_DELTA, _DELTA + _NO_LOGPROBS)
            chunk = chunk.replace(_DONE, _DONE + _NO_LOGPROBS)
        self._inner.data(chunk)


class ResponseFields:
    """What responses lack. Only the event after the end of an item tells whether it was cut."""

    signs = b'"response"', b'"item"'

    def __init__(self, request: dict[str, Any]) -> None:
        self._asked = whole.asked(request)
        self._ended: Event | None = None

    def change(self, event: Event) -> list[Event]:
        kind, ended = event.get("type"), self._ended
        self._ended = event if kind == "response.output_item.done" else None
        cut = False
        if isinstance(response := event.get("response"), dict):
            whole.fill(response, self._asked)
            cut = response.get("status") == "incomplete"
        elif isinstance(item := event.get("item"), dict):
            item.setdefault("status", "completed" if self._ended else "in_progress")
        if cut:
            event["type"] = "response.incomplete"  # vLLM calls it completed all the same
        if cut and ended is not None:
            ended["item"]["status"] = "incomplete"
        # The end of an item waits for the event that follows it; all else goes at once.
        return [each for each in (ended, event) if each and each is not self._ended]

    def document(self, found: Document) -> None:
        whole.fill(found, self._asked)


class MessageFields:
    """What messages lack. `name`: the id for one whose own is no id of a message."""

    signs = b'"message_start"', b'"content_block"'

    def __init__(self, name: str) -> None:
        self._name = name

    def change(self, event: Event) -> list[Event]:
        if isinstance(message := event.get("message"), dict):
            self.document(message)
        _complete(event.get("content_block"))
        return [event]

    def document(self, found: Document) -> None:
        if not str(found.get("id")).startswith("msg_"):
            found["id"] = self._name
        for block in found.get("content") or ():
            _complete(block)


def _complete(block: Any) -> None:
    if isinstance(block, dict):
        for name, empty in _BLOCKS.get(str(block.get("type")), {}).items():
            block.setdefault(name, empty)


class CallHead(Rewriting):
    """A Sink before the Sink, for the stream of a chat with tools. It keeps the chunk with the role
    back until the next chunk of that choice shows whether a call begins. This delays nothing, as
    engines send both when they have the first token."""

    def __init__(self, inner: Sink, choices: int) -> None:
        super().__init__(inner, self._begun)
        self._left = choices
        self._heads: dict[int, Event | None] = {}
        """By choice; None once it has been sent."""

    def data(self, chunk: bytes) -> None:
        if self._left:
            super().data(chunk)
        else:
            self._inner.data(chunk)

    def _begun(self, event: Event) -> list[Event]:
        choices: list[dict[str, Any]] = event.get("choices") or []
        index = choices[0].get("index", 0) if len(choices) == 1 else None
        if index is None or (index in self._heads and self._heads[index] is None):
            return [event]
        delta = choices[0].get("delta") or {}
        if index not in self._heads and _is_head(choices[0]):
            self._heads[index] = event
            return []
        head, self._heads[index] = self._heads.get(index) or event, None
        self._left -= 1
        first = head["choices"][0]["delta"]
        # OpenAI has null where a call begins, and an empty text where a text does.
        if delta.get("tool_calls") and first.get("content") == "":
            first["content"] = None
        return [event] if head is event else [head, event]


def _is_head(choice: dict[str, Any]) -> bool:
    """Whether a chunk says the role and nothing else."""
    delta = choice.get("delta") or {}
    return "role" in delta and not any(value for name, value in delta.items() if name != "role")
