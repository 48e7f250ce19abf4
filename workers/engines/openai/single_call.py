"""At most one call: OpenAI's `parallel_tool_calls` false, Anthropic's `disable_parallel_tool_use`.

llama-server obeys the field only with some chat templates, and Ollama does not know it. So this
removes all calls of a choice after its first. The rest of the answer stays as it is: its end, and
the count of generated tokens.
"""

from __future__ import annotations

from collections.abc import Mapping

from schemas.api.base import Api, FirstCall
from schemas.api.piecewise import LARGE
from workers.engines.base import Sink
from workers.engines.openai import parsed
from workers.engines.openai.rewrite import Rewriting
from workers.engines.openai.stream import says

SIGNS = (b'"parallel_tool_calls"', b'"disable_parallel_tool_use"')
"""Each request that wants at most one call contains one of these."""


class SingleCall(Rewriting):
    """A Sink before the Sink. It parses only what contains calls."""

    def __init__(self, inner: Sink, api: Api, first: FirstCall) -> None:
        super().__init__(inner, first.change, document=first.document)
        self._first = first
        (self._sign,) = api.call_signs()

    def data(self, chunk: bytes) -> None:
        if self._first.begun or len(chunk) > LARGE or self._sign.search(chunk):
            super().data(chunk)
        else:
            self._inner.data(chunk)


def single(sink: Sink, body: bytes, api: Api) -> Sink:
    """A SingleCall if the request wants at most one call, else `sink` itself."""
    first = api.first_call()
    if first is None or not says(body, *SIGNS):
        return sink
    request = parsed.load(body)
    choice = request.get("tool_choice")
    alone = isinstance(choice, Mapping) and choice.get("disable_parallel_tool_use") is True
    wanted = alone or request.get("parallel_tool_calls") is False
    return SingleCall(sink, api, first) if wanted else sink
