"""What a probe works with: a served model, ways to ask it, and faults that say what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from deploy.compat.transport import DONE, Answer, Ask, Open
from schemas import multipart
from schemas.api import endpoints
from schemas.errors import UnsupportedEndpoint
from schemas.multipart import Part

Word = Literal["yes", "partial", "no"]
CHAT = endpoints.CHAT.path
MISSHAPEN = (ValueError, LookupError, TypeError, AttributeError)
"""What reading an answer raises if the answer is not as documented."""
_BRIEF = 300


class Unmet(Exception):
    """The behaviour is missing; `reason` says what the probe saw."""

    word: Word = "no"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Partial(Unmet):
    """The behaviour is there in part."""

    word: Word = "partial"


class Refused(Unmet):
    """The answer was an error, with this `status` and `error`."""

    def __init__(self, status: int, error: Mapping[str, Any]) -> None:
        self.status = status
        self.error = error
        code, message = error.get("code") or error.get("type"), str(error.get("message") or "")
        # The end of the message tells clients how to send the request all the same: no reason.
        message = message.partition(" Leave it out, ")[0]
        # The row says what is missing, so one reason serves all rows that the model lacks.
        has = message.partition("; it has ")[2] if code == UnsupportedEndpoint.code else ""
        told = f"the model has only {has}" if has else brief(message)
        super().__init__(f"{status} {code}: {told}")


def need(condition: object, reason: str) -> None:
    """Raises Unmet with `reason` unless the condition holds."""
    if not condition:
        raise Unmet(reason)


def brief(text: str) -> str:
    """On one line, and not too long."""
    line = " ".join(text.split())
    return line if len(line) <= _BRIEF else line[:_BRIEF] + " …"


def quoted(text: str) -> str:
    """A model's words, shortened."""
    line = brief(text)
    return f"“{line if len(line) <= 60 else line[:60] + ' …'}”"


@dataclass(frozen=True, slots=True)
class Facts:
    """What the ingress knows of a model without asking it. `features`: as engines name them, empty
    if unknown; `context`: tokens, 0 if unknown; `ignores`: fields by endpoint feature that the
    engines would pass over; `busy`: slots in use now; `listens`: the address of the ingress."""

    engines: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    context: int = 0
    ignores: Mapping[str, frozenset[str]] = field(default_factory=dict)
    busy: Callable[[], int] = lambda: 0
    listens: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    model: str
    facts: Facts
    open: Open

    async def send(self, ask: Ask) -> Answer:
        """The whole answer, whatever its status. Raises Away."""
        async with self.open(ask) as (status, headers, pieces):
            return Answer(status, headers, b"".join([piece async for piece in pieces]))

    async def get(self, path: str, **how: Any) -> Answer:
        return await self.send(Ask("GET", path, **how))

    async def post(self, path: str, body: Mapping[str, Any], **how: Any) -> Answer:
        return await self.send(Ask("POST", path, self.body(body), **how))

    def body(self, fields: Mapping[str, Any]) -> bytes:
        return orjson.dumps({"model": self.model, **fields})

    async def ask(self, path: str, body: Mapping[str, Any], **how: Any) -> Any:
        """The answer's JSON document. Raises Refused."""
        return granted(await self.post(path, body, **how)).json

    async def stream(self, path: str, body: Mapping[str, Any]) -> list[Any]:
        """The events. Raises Refused, also for an error among them."""
        events = granted(await self.post(path, {**body, "stream": True})).events
        for event in events:
            if event != DONE and isinstance(event.get("error"), dict):
                raise Refused(200, event["error"])
        return events

    async def upload(self, path: str, parts: Iterable[Part]) -> Answer:
        """The answer to a form. Raises Refused."""
        body, content_type = multipart.encode([Part("model", self.model.encode()), *parts])
        return granted(await self.send(Ask("POST", path, body, content_type)))

    async def chat(self, text: Any, **fields: Any) -> Any:
        """The document of a chat: with temperature 0 and short, unless `fields` differ."""
        return await self.ask(CHAT, chat_body(text, **fields))

    async def chat_stream(self, text: Any, **fields: Any) -> list[Any]:
        return await self.stream(CHAT, chat_body(text, **fields))


def chat_body(text: Any, **fields: Any) -> dict[str, Any]:
    """`text`: what the user says, or all the messages."""
    messages = text if isinstance(text, list) else [{"role": "user", "content": text}]
    return {"messages": messages, "max_tokens": 16, "temperature": 0, **fields}


def said(choice: Mapping[str, Any]) -> str:
    """All text of a choice, thoughts included."""
    message = choice.get("message") or choice.get("delta") or {}
    thought = message.get("reasoning_content") or message.get("reasoning") or ""
    return f"{thought}{message.get('content') or ''}"


def pieces(events: list[Any]) -> list[Mapping[str, Any]]:
    """The choices of a streamed chat, in their order."""
    return [choice for event in events if event != DONE for choice in event["choices"]]


def joined(events: list[Any]) -> Any:
    """The choice of a streamed chat with one choice, put together. Raises IndexError if there is
    none."""
    collector = endpoints.CHAT.api.collector()
    assert collector is not None, "a chat has one"
    for event in events:
        if event != DONE:
            collector.add(event)
    return (collector.document or {"choices": []})["choices"][0]


def text_of(document: Mapping[str, Any]) -> str:
    return said(document["choices"][0])


def counts(document: Mapping[str, Any]) -> tuple[int, int]:
    """Tokens of the prompt, and generated ones. Raises Unmet if the usage does not add up."""
    usage = document["usage"]
    prompt, generated = usage["prompt_tokens"], usage["completion_tokens"]
    need(usage["total_tokens"] == prompt + generated, f"the usage does not add up: {usage}")
    return prompt, generated


def granted(answer: Answer) -> Answer:
    """Raises Refused unless its status is 200."""
    if answer.status == 200:
        return answer
    try:
        document = answer.json
        error = document["error"]
    except (ValueError, LookupError, TypeError):
        error = None
    if isinstance(error, str):  # Ollama's form
        error = {**document, "message": error}
    if not isinstance(error, dict):
        error = {"code": "without an error", "message": answer.body.decode(errors="replace")}
    raise Refused(answer.status, error)
