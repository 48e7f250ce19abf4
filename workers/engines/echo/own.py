"""The echo engine at llama-server's own endpoints. A byte is a token there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.api import tokens
from schemas.api.base import Event
from schemas.jobs import Job
from workers.engines.echo.words import Token, words

_LONGEST = 8192


def template(_: str, request: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    said = (f"<|{each.get('role')}|>{_text(each)}\n" for each in request["messages"])
    return {"prompt": "".join(said) + "<|assistant|>"}, 0


def tokenize(model: str, request: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    if "messages" in request:
        given: Any = template(model, request)[0]["prompt"]
    else:
        given = request.get("content", request.get("prompt"))
    found = [
        each for part in (given if isinstance(given, list) else [given]) for each in _ids(part)
    ]
    pieces = [bytes([each % 256]).decode("latin-1") for each in found]
    return tokens.in_both_forms(request, found, pieces, _LONGEST), 0


def detokenize(_: str, request: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    text = bytes(each % 256 for each in request["tokens"]).decode(errors="replace")
    return tokens.text_document(text), 0


def _ids(part: str | int) -> list[int]:
    return [part] if isinstance(part, int) else list(part.encode())


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    return content if isinstance(content, str) else " ".join(words([message]))


class OwnCompletion:
    """Writes events as llama-server's ``/completion`` does. See
    `workers.engines.echo.engine.Writer`."""

    def __init__(self, job: Job, request: Mapping[str, Any], finish: str, prompt: int) -> None:
        self.generated = 0
        self._job = job
        self._request = request
        self._prompt = prompt
        self._finish = finish

    def begin(self) -> list[Event]:
        return []

    def add(self, choice: int, token: Token) -> list[Event]:
        self.generated += 1
        return [self._event(choice, token.text)]

    def end(self) -> list[Event]:
        about = {
            "model": self._job.asked,
            "prompt": self._request["prompt"],
            "stop_type": "limit" if self._finish == "length" else "eos",
            "timings": {"cache_n": 0, "prompt_n": self._prompt, "predicted_n": self.generated},
        }
        return [{**self._event(0, ""), **about, "stop": True}]

    def _event(self, choice: int, text: str) -> Event:
        counts = {"tokens_predicted": self.generated, "tokens_evaluated": self._prompt}
        return {"index": choice, "content": text, "tokens": [], "stop": False, **counts}
