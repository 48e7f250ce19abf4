"""Answers that go on where another worker's stream broke.

The engine gets the text so far as the beginning of its answer, and its stream is the rest. The
engine counts that text as a part of the prompt, but the client has it as a part of the answer. So
this module moves its tokens in the usage. The ingress does all else that makes one stream of the
two (``ingress/jobs/resume.py``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

import orjson

from schemas.api.base import Api, Event
from schemas.frames import End
from schemas.jobs import Begun
from workers.engines.base import Sink
from workers.engines.openai import parsed
from workers.engines.openai.rewrite import Rewriting

ASKED: Mapping[str, Any] = {"messages": [{"role": "user", "content": "Say yes."}]}
_SO_FAR = "Yes, I"
_THOUGHT = "They want a yes"
BEGUN: Mapping[str, Any] = {
    "messages": [*ASKED["messages"], {"role": "assistant", "content": _SO_FAR}]
}
"""Chats with which an engine is asked whether it goes on from an assistant's last message."""
_USAGE, _ALL = (b'"usage"',), (b"",)
Count = Callable[[str], Awaitable[int]]
"""Asks the engine for the tokens of a text; 0 if it does not tell."""


def last_of_assistant(request: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The request's last message or item, if the assistant said it: its answer goes on from it."""
    rows = request.get("messages") or request.get("input")
    last = rows[-1] if isinstance(rows, list) and rows else None
    return last if isinstance(last, Mapping) and last.get("role") == "assistant" else None


def stays_open(prompt: object) -> bool:
    """Whether the prompt that a template makes of `BEGUN` ends with the beginning of the answer."""
    return isinstance(prompt, str) and prompt.endswith(_SO_FAR)


def with_thoughts(request: Mapping[str, Any], thoughts: str, text: str = "") -> dict[str, Any]:
    """The chat with an answer that is begun: by these thoughts, and by the text behind them."""
    begun = {"role": "assistant", "content": text, "reasoning_content": thoughts}
    before = request["messages"][:-1] if last_of_assistant(request) else request["messages"]
    return {**request, "messages": [*before, begun]}


THOUGHT = with_thoughts(ASKED, _THOUGHT), with_thoughts(ASKED, _THOUGHT, _SO_FAR)
"""Chats with which an engine is asked whether it goes on within a thought, and behind one."""


def thought_end(within: object, behind: object) -> str:
    """What a template writes between a thought and the text, by the prompts that it makes of
    `THOUGHT`; empty if it does not go on from thoughts."""
    if not (isinstance(within, str) and within.endswith(_THOUGHT) and stays_open(behind)):
        return ""
    _, found, end = str(behind).removesuffix(_SO_FAR).rpartition(_THOUGHT)
    return end if found else ""


def count_in(status: int, answer: bytes, name: str) -> int:
    """The number, or the length of the list, that an engine answered under `name`; 0 if none."""
    try:
        found = orjson.loads(answer)[name] if status == 200 else 0
        return len(found) if isinstance(found, list) else int(found)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return 0


async def reopened(begun: Begun, end: str, count: Count) -> Begun:
    """What was begun, as the engine has to be told it. The `end` of a thought comes in no event,
    but the template writes it, and maybe a line's end that the client has in the thought."""
    if not (begun.thoughts and begun.text):
        return begun
    thoughts = begun.thoughts
    if end.startswith("\n") and thoughts.endswith("\n"):
        end, thoughts = end[1:], thoughts[:-1]
    return Begun(begun.tokens + await count(end), begun.text, thoughts)


async def added_tokens(begun: Begun, end: str, before: str, count: Count) -> int:
    """The tokens that a text so far adds to the prompt. `end`: of its thoughts. `before`: the
    client's words, if it stands right behind them: the last of these may become a part of its first
    token."""
    thoughts = begun.thoughts and begun.thoughts + (end if begun.text else "")
    tokens = await count(before + thoughts + begun.text)
    if tokens and before:
        tokens -= await count(before)
    return tokens or begun.tokens


class Part(Rewriting):
    """A Sink before the Sink, for the rest of an answer. `body`: the request for the whole.
    `read`: the tokens of what was `begun` as the engine counts them. `written`: those that it was
    written in."""

    def __init__(self, sink: Sink, api: Api, body: bytes, begun: Begun, read: int, written: int):
        request = parsed.load(body)
        rest = api.continued(request, begun.text, written)
        if begun.thoughts:
            rest = with_thoughts(rest, begun.thoughts, begun.text)
        self.body = parsed.write(rest, body)
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
