"""Mends Ollama's answers: gives them unique ids, and turns embeddings into OpenAI's form."""

from __future__ import annotations

import re
import struct
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

from schemas.api.base import Document
from workers.engines.base import Sink
from workers.engines.openai.stream import Filter

_ID = re.compile(rb'("id"\s*:\s*"(?:chat)?cmpl-)[0-9]{1,3}"')


class AnswerId(Filter):
    """A Sink before the Sink that gives the answer a unique id: Ollama draws from 999 numbers.

    The first bytes with Ollama's id show what to replace. Replacing bytes changes only fields, as
    quotes inside a JSON string would be escaped.
    """

    def __init__(self, inner: Sink, job: str) -> None:
        super().__init__(inner)
        self._id = job.encode() + b'"'
        self._own = b""
        self._ours = b""

    def data(self, chunk: bytes) -> None:
        if not self._own and (found := _ID.search(chunk)):
            self._own = found.group()
            self._ours = found.group(1) + self._id
        if self._own != self._ours:  # both are empty until there is an id
            chunk = chunk.replace(self._own, self._ours)
        self._inner.data(chunk)


def embeddings(found: Mapping[str, Any], request: Mapping[str, Any]) -> tuple[int, Document]:
    """The tokens, and the answer of ``/api/embed`` as OpenAI's list. base64 holds little-endian
    floats of 32 bits. Raises LookupError, TypeError, struct.error if there are no vectors."""
    vectors = found["embeddings"]
    if not vectors or not all(isinstance(vector, list) for vector in vectors):
        raise TypeError("no vectors")
    packed = str(request.get("encoding_format")).lower() == "base64"
    data = [
        {
            "object": "embedding",
            "embedding": _packed(vector) if packed else vector,
            "index": index,
        }
        for index, vector in enumerate(vectors)
    ]
    tokens = int(found.get("prompt_eval_count") or 0)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    listed = {"object": "list", "model": request.get("model"), "data": data, "usage": usage}
    return tokens, listed


def _packed(vector: list[float]) -> str:
    return b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
