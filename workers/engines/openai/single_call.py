"""One call at most: `parallel_tool_calls` false, or Anthropic's `disable_parallel_tool_use`.

Whether an engine holds to that depends on the model's chat template (llama-server), or it knows no
such field (Ollama). So what comes after the first call of a choice is left out here, and the rest
of the answer stays as it is: its end, and the tokens that were generated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import orjson

from workers.engines.base import EngineFault, Sink
from workers.engines.openai.rewrite import Event, Rewriting

_SIGNS = (b'"parallel_tool_calls"', b'"disable_parallel_tool_use"')


class _Cut(Protocol):
    """`begun`: something was left out, so that all that comes later is to be looked at."""

    begun: bool

    def change(self, event: Event) -> Event | None: ...

    def document(self, found: dict[str, Any]) -> None: ...


class Single(Rewriting):
    """A Sink before the Sink. Only what tells of calls is looked at."""

    def __init__(self, inner: Sink, feature: str) -> None:
        make, self._sign = _KINDS[feature]
        self._cut = make()
        super().__init__(inner, self._cut.change)
        self._events = False
        self.start = self._begin

    def _begin(self, status: int, content_type: str) -> None:
        self._events = content_type.startswith("text/event-stream")
        self._inner.start(status, content_type)

    def data(self, chunk: bytes) -> None:
        """Whole events, or the one document."""
        if not self._cut.begun and self._sign not in chunk:
            self._inner.data(chunk)
        elif self._events:
            super().data(chunk)
        else:
            self._inner.data(self._rest_of(chunk))

    def _rest_of(self, document: bytes) -> bytes:
        """Raises EngineFault for one that is not what it should be."""
        try:
            found = orjson.loads(document)
            self._cut.document(found)
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as fault:
            raise EngineFault(f"the engine's answer is none: {type(fault).__name__}") from None
        return orjson.dumps(found)


def single(sink: Sink, body: bytes, feature: str) -> Sink:
    """`sink` itself, unless the request wants no two calls at once."""
    if feature not in _KINDS or not any(sign in body for sign in _SIGNS):
        return sink
    request = orjson.loads(body)
    choice = request.get("tool_choice")
    alone = isinstance(choice, Mapping) and choice.get("disable_parallel_tool_use") is True
    wanted = alone or request.get("parallel_tool_calls") is False
    return Single(sink, feature) if wanted else sink


class _Chunks:
    """Chats: a call has an `index`, and its first chunk an `id`, in each choice for itself."""

    def __init__(self) -> None:
        self.begun = False
        self._now: dict[Any, tuple[Any, Any]] = {}
        self._first: dict[Any, tuple[Any, Any]] = {}

    def document(self, found: dict[str, Any]) -> None:
        for choice in found.get("choices") or ():
            if calls := choice["message"].get("tool_calls"):
                choice["message"]["tool_calls"] = calls[:1]

    def change(self, event: Event) -> Event | None:
        choices = event.get("choices") or []
        event["choices"] = [choice for choice in choices if self._kept(choice)]
        return event if event["choices"] or not choices or event.get("usage") else None

    def _kept(self, choice: dict[str, Any]) -> bool:
        """Whether it still says anything."""
        delta = choice.get("delta") or {}
        calls = delta.get("tool_calls")
        if not calls:
            return True
        delta["tool_calls"] = [c for c in calls if self._is_first(choice.get("index"), c)]
        if delta["tool_calls"]:
            return True
        del delta["tool_calls"]
        return bool(choice.get("finish_reason")) or any(delta.values())

    def _is_first(self, choice: Any, call: Mapping[str, Any]) -> bool:
        """Some engines give all calls the same index: a new id is a new call."""
        place = call.get("index", 0)
        known = self._now.get((choice, place), (place, call.get("id")))
        now = self._now[choice, place] = (place, call.get("id") or known[1])
        return self._first.setdefault(choice, now) == now


class _Listed:
    """Answers that are a list of items, some of which are calls. `place`: the field of events with
    an item's number. Those behind one that is left out move up."""

    place = ""

    def __init__(self) -> None:
        self.begun = False
        self._first: Any = None
        self._left_out: set[int] = set()
        self._missing = 0

    def change(self, event: Event) -> Event | None:
        place: Any = event.get(self.place)
        begun = self.beginning(event)
        if begun is not None and self.is_call(begun):
            self._first = place if self._first is None else self._first
            if place != self._first:
                self._left_out.add(place)
                self.begun = True
        if place in self._left_out:
            self._missing += 1
            return None
        if isinstance(place, int):
            event[self.place] = place - sum(other < place for other in self._left_out)
        if "sequence_number" in event:
            event["sequence_number"] -= self._missing
        self.document(event.get("response") or {})
        return event

    def document(self, found: dict[str, Any]) -> None:
        for name in ("output", "content"):
            if isinstance(items := found.get(name), list):
                found[name] = list(self._of_one(items))

    def _of_one(self, items: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
        called = False
        for item in items:
            if not (self.is_call(item) and called):
                yield item
            called = called or self.is_call(item)

    def beginning(self, event: Event) -> dict[str, Any] | None:
        raise NotImplementedError

    def is_call(self, item: Mapping[str, Any]) -> bool:
        raise NotImplementedError


class _Items(_Listed):
    """The responses API."""

    place = "output_index"

    def beginning(self, event: Event) -> dict[str, Any] | None:
        return event["item"] if event.get("type") == "response.output_item.added" else None

    def is_call(self, item: Mapping[str, Any]) -> bool:
        return item.get("type") == "function_call"


class _Blocks(_Listed):
    """Anthropic's messages."""

    place = "index"

    def beginning(self, event: Event) -> dict[str, Any] | None:
        return event["content_block"] if event.get("type") == "content_block_start" else None

    def is_call(self, item: Mapping[str, Any]) -> bool:
        return item.get("type") == "tool_use"


_KINDS: Mapping[str, tuple[Callable[[], _Cut], bytes]] = {
    "chat": (_Chunks, b'"tool_calls"'),
    "responses": (_Items, b"function_call"),
    "messages": (_Blocks, b"tool_use"),
}
"""By the feature of the endpoint; with what an answer with a call has."""
