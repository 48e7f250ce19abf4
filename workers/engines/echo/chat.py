"""The echo engine's chat and text completions, as llama-server writes them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from schemas.api import endpoints
from schemas.api.base import Event
from schemas.jobs import Job
from workers.engines.echo.words import Token

LOGPROB = -0.5


class Completions:
    """See `workers.engines.echo.engine.Writer`."""

    def __init__(
        self, job: Job, request: Mapping[str, Any], choices: int, finish: str, prompt: int
    ) -> None:
        self.generated = 0
        self._job = job
        self._choices = choices
        self._finish = finish
        self._prompt = prompt
        self._chat = job.endpoint == endpoints.CHAT.path
        options = request.get("stream_options") or {}
        self._usage = not job.stream or options.get("include_usage")
        self._probable = request.get("logprobs") not in (None, False)
        self._created = int(time.time())

    def begin(self) -> list[Event]:
        content = None if self._finish == "tool_calls" else ""  # null before a call, as at OpenAI
        delta = {"role": "assistant", "content": content}
        return [
            self._event(index, delta=delta) for index in range(self._choices if self._chat else 0)
        ]

    def add(self, choice: int, token: Token) -> list[Event]:
        self.generated += 1
        said = {"delta": self._delta(choice, token)} if self._chat else {"text": token.text}
        return [self._event(choice, **said, **self._logprobs(token.text))]

    def end(self) -> list[Event]:
        said: Event = {"delta": {}} if self._chat else {"text": ""}
        ended = [self._event(i, self._finish, **said) for i in range(self._choices)]
        usage = {
            "prompt_tokens": self._prompt,
            "completion_tokens": self.generated,
            "total_tokens": self._prompt + self.generated,
        }
        return [*ended, {**self._top([]), "usage": usage}] if self._usage else ended

    def _event(self, index: int, finish: str | None = None, **said: Any) -> Event:
        return self._top([{"finish_reason": finish, "index": index, **said}])

    def _top(self, choices: list[Event]) -> Event:
        return {
            "choices": choices,
            "created": self._created,
            "id": f"chatcmpl-{self._job.id}",
            "model": self._job.asked,
            "object": "chat.completion.chunk" if self._chat else "text_completion",
        }

    def _logprobs(self, text: str) -> dict[str, Any]:
        if not self._probable or not text:
            return {}
        if self._chat:
            one = {"token": text, "logprob": LOGPROB, "bytes": [*text.encode()]}
            return {"logprobs": {"content": [{**one, "top_logprobs": [one]}]}}
        probable = {"tokens": [text], "token_logprobs": [LOGPROB]}
        return {"logprobs": {**probable, "top_logprobs": [{text: LOGPROB}], "text_offset": [0]}}

    def _delta(self, choice: int, token: Token) -> Event:
        if token.thought:
            return {"reasoning_content": token.thought}
        if token.call < 0:
            return {"content": token.text}
        function = {"arguments": token.arguments}
        if not token.name:
            return {"tool_calls": [{"index": token.call, "function": function}]}
        named = {"index": token.call, "function": {"name": token.name, **function}}
        about = {"id": call_id(self._job, choice, token.call), "type": "function"}
        return {"tool_calls": [{**named, **about}]}


def call_id(job: Job, choice: int, call: int) -> str:
    return f"call_{job.id[:8]}{choice}{call}"
