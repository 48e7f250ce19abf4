"""Answers that go on where another worker's stream broke.

The engine gets the text so far as the beginning of its answer, and its stream is the rest. The
engine counts that text as a part of the prompt, but the client has it as a part of the answer. So
this module moves its tokens in the usage. The ingress does all else that makes one stream of the
two (``ingress/jobs/resume.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson

from schemas.api.base import Api, Event
from schemas.frames import End
from workers.engines.base import Sink
from workers.engines.openai.rewrite import Rewriting

ASKED: Mapping[str, Any] = {"messages": [{"role": "user", "content": "Say yes."}]}
_SO_FAR = "Yes, I"
BEGUN: Mapping[str, Any] = {
    "messages": [*ASKED["messages"], {"role": "assistant", "content": _SO_FAR}]
}
"""Chats with which an engine is asked whether it goes on from an assistant's last message."""
_USAGE, _ALL = (b'"usage"',), (b"",)


def last_of_assistant(request: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The request's last message or item, if the assistant said it: its answer goes on from it."""
    rows = request.get("messages") or request.get("input")
    last = rows[-1] if isinstance(rows, list) and rows else None
    return last if isinstance(last, Mapping) and last.get("role") == "assistant" else None


def stays_open(prompt: object) -> bool:
    """Whether the prompt that a template makes of `BEGUN` ends with the beginning of the answer."""
    return isinstance(prompt, str) and prompt.endswith(_SO_FAR)


def count_in(status: int, answer: bytes, name: str) -> int:
    """The number, or the length of the list, that an engine answered under `name`; 0 if none."""
    try:
        found = orjson.loads(answer)[name] if status == 200 else 0
        return len(found) if isinstance(found, list) else int(found)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return 0


class Part(Rewriting):
    """A Sink before the Sink, for the rest of an answer. `body`: the request for the rest. `read`:
    the tokens of the text so far as the engine counts them. `written`: those it was written in."""

    def __init__(self, sink: Sink, api: Api, body: bytes, text: str, read: int, written: int):
        request = orjson.loads(body)
        self.body = orjson.dumps(api.continued(request, text, written))
        self._api = api
        self._read = read
        self._spent = api.is_spent(request, written)
        self._written = written - self._spent  # the engine writes one token, which is not passed on
        super().__init__(sink, self._changed, signs=_ALL if self._spent else _USAGE)

    def _changed(self, event: Event) -> Event:
        self._api.move_usage(event, self._read, self._written)
        return self._api.without_words(event) if self._spent else event

    def whole(self, end: End) -> End:
        """The tokens of the whole answer, as the log and the usage have them."""
        if end.prompt_tokens < 0:  # not known
            return end
        prompt = max(0, end.prompt_tokens - self._read)
        completion = max(0, end.completion_tokens) + self._written
        return replace(end, prompt_tokens=prompt, completion_tokens=completion)
