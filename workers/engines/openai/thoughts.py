"""Thoughts of a chat under the name that clients look for: `reasoning_content`, as DeepSeek named
it and llama-server does. vLLM and Ollama write `reasoning` alone; theirs stays beside it."""

from __future__ import annotations

import re

from workers.engines.base import Between

_THEIRS = b'"reasoning":'
_OURS = b'"reasoning_content"'
_THOUGHT = re.compile(rb'"reasoning":\s*("(?:[^"\\]|\\.)*+")', re.DOTALL)
"""As bytes: inside a text, or the arguments of a call, the quotes around the name are escaped."""


class Named(Between):
    """A Sink before the Sink, for whole events or documents of ``/v1/chat/completions``."""

    def data(self, chunk: bytes) -> None:
        if _THEIRS in chunk and _OURS not in chunk:
            chunk = _THOUGHT.sub(rb'"reasoning_content":\1,\g<0>', chunk)
        self._inner.data(chunk)
