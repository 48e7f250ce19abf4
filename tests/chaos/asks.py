"""What is asked, and what must be answered: an answer repeats the words of its prompt."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import Any

from schemas.api import endpoints
from workers.engines.echo import words as echo

ECHO, PARROT, MIXED, CLOUD = "echo", "parrot", "mixed", "cloud"
"""Models: of echo engines, of programs that workers start, of both workers and providers (whatever
takes it first), and of providers alone."""
STAYS, LEAVES, SLOW = "stays", "leaves", "slow"
"""What a client does: it reads to the end, leaves before it, or reads a byte a second for a while.
"""
SCHEMA = {
    "type": "object",
    "properties": {"id": {"type": "integer"}, "list": {"type": "array"}},
    "required": ["id", "list"],
}
TOOL = {"type": "function", "function": {"name": "note", "parameters": {"type": "object"}}}


@dataclass(frozen=True)
class Ask:
    """One request. `texts`: what each choice must say. `usage`: the tokens of prompt and answer.
    `continued`: its stream goes on elsewhere if its holder is lost."""

    number: int
    kind: str
    path: str
    body: dict[str, Any]
    texts: list[Any]
    usage: tuple[int, int] = (0, 0)
    continued: bool = False
    conduct: str = STAYS
    after: float = 0.0
    """Seconds until a client leaves, or reads no longer slowly."""
    key: str = ""
    """Its Idempotency-Key."""

    @property
    def model(self) -> str:
        return str(self.body["model"])

    @property
    def stream(self) -> bool:
        return bool(self.body.get("stream"))


def _with(ask: Ask, **changes: Any) -> Ask:
    return Ask(**{**ask.__dict__, **changes})


def _chat(number: int, draw: random.Random, words: list[str], model: str = ECHO) -> Ask:
    body = {"model": model, "messages": _user(words), **_streamed(draw, usage=True)}
    said = words
    if draw.random() < 0.3:
        body["max_tokens"] = draw.randint(1, len(words))
        said = words[: body["max_tokens"]]
    usage = (len(words), len(said))
    path = endpoints.CHAT.path
    return Ask(number, f"{model} chat", path, body, [" ".join(said)], usage, continued=True)


def _parrot(number: int, draw: random.Random, words: list[str]) -> Ask:
    """The program does not continue texts, and counts prompts in its own way."""
    return _with(_chat(number, draw, words, PARROT), continued=False, usage=(0, 0))


def _mixed(number: int, draw: random.Random, words: list[str]) -> Ask:
    return _chat(number, draw, words, MIXED)


def _cloud(number: int, draw: random.Random, words: list[str]) -> Ask:
    return _with(_chat(number, draw, words, CLOUD), continued=False)


def _completion(number: int, draw: random.Random, words: list[str]) -> Ask:
    body = {"model": ECHO, "prompt": " ".join(words), **_streamed(draw, usage=True)}
    usage = (len(words), len(words))
    path = endpoints.COMPLETIONS.path
    return Ask(number, "completion", path, body, [" ".join(words)], usage, continued=True)


def _response(number: int, draw: random.Random, words: list[str]) -> Ask:
    body = {"model": ECHO, "input": " ".join(words), **_streamed(draw)}
    usage = (len(words), len(words))
    path = endpoints.RESPONSES.path
    return Ask(number, "response", path, body, [" ".join(words)], usage, continued=True)


def _message(number: int, draw: random.Random, words: list[str]) -> Ask:
    limit = {"max_tokens": len(words)}
    body = {"model": ECHO, "messages": _user(words), **limit, **_streamed(draw)}
    usage = (len(words), len(words))
    path = endpoints.MESSAGES.path
    return Ask(number, "message", path, body, [" ".join(words)], usage, continued=True)


def _schema(number: int, draw: random.Random, words: list[str]) -> Ask:
    text = json.dumps({"id": number, "list": words})
    form = {"type": "json_schema", "json_schema": {"name": "noted", "schema": SCHEMA}}
    messages = _user([text])
    body = {"model": ECHO, "messages": messages, "response_format": form, **_streamed(draw)}
    return Ask(number, "JSON schema", endpoints.CHAT.path, body, [text], continued=True)


def _stopped(number: int, draw: random.Random, words: list[str]) -> Ask:
    at = draw.randrange(1, len(words))
    stop = f"{words[at - 1][-1]} {words[at]}"
    body = {"model": ECHO, "messages": _user(words), "stop": [stop], **_streamed(draw)}
    whole = " ".join(words)
    said = whole[: whole.index(stop)]
    return Ask(number, "stop", endpoints.CHAT.path, body, [said], continued=True)


def _engine_fault(number: int, draw: random.Random, words: list[str]) -> Ask:
    """The engine cuts its stream, or hangs, behind so many tokens of each attempt."""
    fault = draw.choice(("cut", "cut", "hang"))
    at = draw.randint(1 + len(words) // 2, len(words))
    body = {"model": ECHO, "messages": _user(words), "stream": True}
    body["echo"] = {"fault": fault, "at": at, "token_ms": 15}
    text = " ".join(words)
    return Ask(number, f"engine {fault}", endpoints.CHAT.path, body, [text], continued=True)


def _two(number: int, draw: random.Random, words: list[str]) -> Ask:
    body = {"model": ECHO, "messages": _user(words), "n": 2, **_streamed(draw)}
    return Ask(number, "n=2", endpoints.CHAT.path, body, [" ".join(words)] * 2)


def _tool(number: int, draw: random.Random, words: list[str]) -> Ask:
    body = {"model": ECHO, "messages": _user(words), "tools": [TOOL], **_streamed(draw)}
    body["tool_choice"] = "required"
    said = {"name": "note", "arguments": {"text": " ".join(words)}}
    return Ask(number, "tool", endpoints.CHAT.path, body, [said])


def _embedding(number: int, draw: random.Random, words: list[str]) -> Ask:
    body = {"model": ECHO, "input": " ".join(words)}
    document, _ = echo.embeddings(ECHO, body)
    path = endpoints.EMBEDDINGS.path
    return Ask(number, "embedding", path, body, [document["data"][0]["embedding"]])


def _long(number: int, draw: random.Random, words: list[str]) -> Ask:
    """More than the buffers of a connection hold, for a client that hardly reads."""
    body = {"model": ECHO, "messages": _user(words), "max_tokens": 3000, "stream": True}
    body["echo"] = {"token_ms": 0}
    text = " ".join(words[at % len(words)] for at in range(3000))
    ask = Ask(number, "long", endpoints.CHAT.path, body, [text], continued=True)
    return _with(ask, conduct=SLOW, after=5.0)


def _user(words: list[str]) -> list[dict[str, str]]:
    return [{"role": "user", "content": " ".join(words)}]


def _streamed(draw: random.Random, usage: bool = False) -> dict[str, Any]:
    if draw.random() < 0.35:
        return {}
    return {"stream": True, **({"stream_options": {"include_usage": True}} if usage else {})}


_MAKERS = {
    "chat": _chat,
    "parrot": _parrot,
    "mixed": _mixed,
    "cloud": _cloud,
    "completion": _completion,
    "response": _response,
    "message": _message,
    "schema": _schema,
    "stop": _stopped,
    "engine fault": _engine_fault,
    "two": _two,
    "tool": _tool,
    "embedding": _embedding,
    "long": _long,
}
WEIGHTS = {
    "chat": 24.0,
    "parrot": 8.0,
    "mixed": 10.0,
    "cloud": 6.0,
    "completion": 8.0,
    "response": 8.0,
    "message": 8.0,
    "schema": 6.0,
    "stop": 4.0,
    "engine fault": 4.0,
    "two": 4.0,
    "tool": 4.0,
    "embedding": 5.0,
    "long": 1.0,
}


def drawn(seed: int, number: int) -> Ask:
    """The request of this number: a function of the seed."""
    draw = random.Random(f"{seed}:{number}")
    kind = draw.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    words = [f"#{number}", *(f"w{at}{draw.choice('abcd')}" for at in range(draw.randint(3, 45)))]
    return _conducted(_MAKERS[kind](number, draw, words), draw)


def _conducted(ask: Ask, draw: random.Random) -> Ask:
    roll = draw.random()
    if roll < 0.06:
        return _with(ask, conduct=LEAVES, after=draw.choice((0.0, 0.05, 0.3, 0.8)))
    if roll < 0.08 and ask.stream:
        return _with(ask, conduct=SLOW, after=draw.choice((2.0, 6.0)))
    return ask
