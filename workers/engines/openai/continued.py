"""Answers that go on where another worker's stream broke.

The engine gets the text so far as the beginning of its answer, and its stream is the rest. To the
engine that text is a part of the prompt. To the client it is a part of the answer, so the usage is
moved here; all else that makes one stream of the two is the ingress's (``ingress/jobs/resume.py``).
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
_USAGE = (b'"usage"',)


def stays_open(prompt: object) -> bool:
    """Whether the prompt that a template makes of `BEGUN` ends with the beginning of the answer."""
    return isinstance(prompt, str) and prompt.endswith(_SO_FAR)


def continued(api: Api, body: bytes, text: str, tokens: int) -> bytes:
    """The request whose answer is the rest. `tokens`: how many the text so far has."""
    return orjson.dumps(api.continued(orjson.loads(body), text, tokens))


def moving_usage(sink: Sink, api: Api, tokens: int) -> Sink:
    def move(event: Event) -> Event:
        api.move_usage(event, tokens)
        return event

    return Rewriting(sink, move, signs=_USAGE)


def moved(end: End, tokens: int) -> End:
    """The tokens of the whole answer, as the log and the usage have them."""
    if end.prompt_tokens < 0:
        return end
    first = min(tokens, end.prompt_tokens)
    prompt, completion = end.prompt_tokens - first, max(0, end.completion_tokens) + first
    return replace(end, prompt_tokens=prompt, completion_tokens=completion)
