"""One message of Anthropic's, whole or as its events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import orjson

from tests.doubles.base import sse
from tests.doubles.providers import words
from tests.doubles.providers.base import ident
from tests.doubles.providers.faults import Refused
from tests.doubles.providers.flow import Flow, Piece

if TYPE_CHECKING:
    from tests.doubles.providers.anthropic import Anthropic

_REASONS = {"stop": "end_turn", "length": "max_tokens", "stopped": "stop_sequence"}
PING = sse({"type": "ping"}, "ping")


class Message:
    """The answer to `asked`: a text, or one tool use a call."""

    def __init__(
        self, sim: Anthropic, asked: Mapping[str, Any], prompt: int, metered: bool
    ) -> None:
        self._sim, self._prompt, self._metered = sim, prompt, metered
        self._model = sim.models.get(asked["model"], asked["model"])
        self._id = ident("msg_01", 11)
        self._kept = kept(asked)
        said = words.last_user(asked["messages"])
        tools = [(t["name"], t.get("input_schema")) for t in asked.get("tools") or ()]
        calls = words.called(tools, _choice(asked.get("tool_choice") or {}), said)
        self._calls = [(ident("toolu_01", 11), name, pieces) for name, pieces in calls]
        pieces = words.continued(words.answer(said, sim.pace.tokens), sim.prefill(asked))
        stops = asked.get("stop_sequences")
        self._pieces, reason, self._stop = words.cut_to(pieces, asked.get("max_tokens"), stops)
        self._reason = "tool_use" if self._calls else _REASONS[reason]

    def flow(self, stream: bool, error: Callable[[Refused], bytes]) -> Flow:
        if not stream:
            pieces = [Piece(1, piece) for piece in self._spoken()]
            return Flow(pieces, whole=self._document)
        start = {**self._document(), "content": [], "stop_reason": None, "stop_sequence": None}
        if self._metered:
            start["usage"] = self._usage(1)
        head = sse({"type": "message_start", "message": start}, "message_start")
        pieces = self._uses() if self._calls else self._told()
        ended = {"stop_reason": self._reason, "stop_sequence": self._stop}
        # not an optional field: a stream without usage is one that tells nothing of the output
        usage = {"output_tokens": self._output()} if self._metered else {}
        tail = sse({"type": "message_delta", "delta": ended, "usage": usage}, "message_delta")
        return Flow(pieces, head, tail, sse({"type": "message_stop"}, "message_stop"), error)

    def _spoken(self) -> list[str]:
        return [piece for _, _, pieces in self._calls for piece in pieces] or self._pieces

    def _output(self) -> int:
        return len(self._spoken()) + self._sim.pace.reasoning

    @property
    def _cached(self) -> int:
        return min(self._sim.pace.cached, self._prompt)

    @property
    def _written(self) -> int:
        """With any mark of a cache, all that is not there yet."""
        return self._prompt - self._cached if self._kept else 0

    @property
    def stored(self) -> int:
        """Quarters of a token that are paid for it beside the prompt."""
        return self._written * (4 if self._kept == "1h" else 1)

    def _usage(self, output: int) -> dict[str, Any]:
        """`input_tokens` has none of what came from the cache or went there."""
        lasting = {f"ephemeral_{each}_input_tokens": 0 for each in ("5m", "1h")}
        if self._kept:
            lasting[f"ephemeral_{self._kept}_input_tokens"] = self._written
        return {
            "input_tokens": self._prompt - self._cached - self._written,
            "cache_creation_input_tokens": self._written,
            "cache_read_input_tokens": self._cached,
            "cache_creation": lasting,
            "output_tokens": output,
            "service_tier": "standard",
        }

    def _document(self) -> dict[str, Any]:
        content: list[dict[str, Any]] = [
            {"type": "tool_use", "id": i, "name": name, "input": orjson.loads("".join(pieces))}
            for i, name, pieces in self._calls
        ]
        found = {
            "model": self._model,
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "content": content or [{"type": "text", "text": "".join(self._pieces)}],
            "stop_reason": self._reason,
            "stop_sequence": self._stop,
        }
        return {**found, "usage": self._usage(self._output())} if self._metered else found

    def _told(self) -> list[Piece]:
        delta = [
            (tokens, text, {"type": "text_delta", "text": text})
            for tokens, text in words.grouped(self._pieces, self._sim.pace.per_event)
        ]
        return _block(0, {"type": "text", "text": ""}, delta, PING)

    def _uses(self) -> list[Piece]:
        found = []
        for at, (number, name, pieces) in enumerate(self._calls):
            block = {"type": "tool_use", "id": number, "name": name, "input": {}}
            deltas = [(1, p, {"type": "input_json_delta", "partial_json": p}) for p in pieces]
            found += _block(at, block, deltas, PING if at == 0 else b"")
        return found


def kept(asked: Any) -> str:
    """For how long `cache_control` somewhere in it has the prompt kept: "", "5m" or "1h"."""
    if isinstance(asked, list):
        return max(map(kept, asked), default="")
    if not isinstance(asked, dict):
        return ""
    mark = asked.get("cache_control")
    own = mark.get("ttl", "5m") if isinstance(mark, dict) else ""
    return own or max(map(kept, asked.values()), default="")


def _choice(choice: Mapping[str, Any]) -> str:
    kinds = {"any": "required", "none": "none", "auto": "auto"}
    return kinds.get(choice.get("type", "auto")) or str(choice.get("name"))


def _block(
    index: int, block: dict[str, Any], deltas: list[tuple[int, str, dict[str, str]]], ping: bytes
) -> list[Piece]:
    """A content block: its start goes with its first piece, its stop with its last."""
    start = {"type": "content_block_start", "index": index, "content_block": block}
    stop = sse({"type": "content_block_stop", "index": index}, "content_block_stop")
    found = []
    for tokens, text, delta in deltas:
        event = {"type": "content_block_delta", "index": index, "delta": delta}
        found.append(Piece(tokens, text, sse(event, "content_block_delta")))
    if not found:
        found.append(Piece(0, ""))
    found[0].raw = sse(start, "content_block_start") + ping + found[0].raw
    found[-1].raw += stop
    return found
