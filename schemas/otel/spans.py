"""Spans in the words of OTLP. Pure.

OpenTelemetry's SDK takes 20 to 50 µs a span, and a request has five. Here a span is made once the
request is over, of what is known anyway. What spans of one kind have in common is packed once, by
the protocol's own package; ids and times, which all have, are written by hand (ADR 20).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from functools import lru_cache

from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope, KeyValue, KeyValueList
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from schemas.otel.packed import attribute, cut, field, fill, size
from schemas.otel.words import ERROR, Attributes, Value, What, When
from schemas.traces import SAMPLED, Trace

SCOPE = "headrace"
_KNOWN, _REMOTE = 0x100, 0x200
_FLAGS = {
    (sampled, remote): sampled * SAMPLED | _KNOWN | remote * _REMOTE
    for sampled in (False, True)
    for remote in (False, True)
}
"""It is known whether the parent is of another process, and whether it is."""
_bytes = bytes.fromhex
_times = struct.Struct("<BQBQ2sI").pack
"""A span's beginning and end, and its flags, each behind its tag."""
_BEGIN, _END, _FLAG = 0x39, 0x41, b"\x85\x01"
_time = struct.Struct("<Q").pack
_FAILED = b"\x7a\x02\x18" + bytes((Status.STATUS_CODE_ERROR,))
"""The status of a span."""


class Spans:
    """Gathers spans, to be sent together."""

    def __init__(self, resource: Mapping[str, str], version: str) -> None:
        self._resource = field(b"\x0a", resource_of(resource).SerializeToString())
        scope = InstrumentationScope(name=SCOPE, version=version)
        self._scope = field(b"\x0a", scope.SerializeToString())
        self._spans: list[bytes] = []

    def add(
        self,
        what: What,
        trace: Trace,
        span: str,
        when: When,
        more: Iterable[tuple[str, Value]] = (),
        error: str = "",
        remote: bool = False,
        event: tuple[str, int] | None = None,
    ) -> None:
        """`trace`: where the span's parent is; with no parent if that has none. `more`: attributes
        beside those of `what`. `error`: why it failed, in one word. `remote`: the parent is of
        another process. `event`: its name, and when it was."""
        begin, end = when
        below = f"2208{trace.span}" if trace.span else ""
        made = (
            _bytes(f"0a10{trace.id}1208{span}{below}")
            + _times(_BEGIN, begin, _END, max(begin, end), _FLAG, _FLAGS[trace.sampled, remote])
            + (what.packed or _pack(what))
        )
        if trace.state:
            made += field(b"\x1a", trace.state.encode())
        for name, value in more:
            made += attribute(name, value)
        if error:
            made += _FAILED + attribute(ERROR, error)
        if event is not None:
            name, at = event
            before, behind = _event(name)
            made += before + _time(at) + behind
        self._spans.append(field(b"\x12", made))

    def __len__(self) -> int:
        return len(self._spans)

    def take(self) -> bytes:
        """All that were gathered, as one request. Such bytes can be joined: they are one message
        then, too."""
        spans, self._spans = self._spans, []
        of_scope = len(self._scope) + sum(map(len, spans))
        head = self._resource + b"\x12" + size(of_scope)
        whole = b"\x0a" + size(len(head) + of_scope)
        return b"".join((whole, head, self._scope, *spans))


@lru_cache(16)
def _event(name: str) -> tuple[bytes, bytes]:
    """What comes before and behind its time."""
    behind = field(b"\x12", name.encode())
    return b"\x5a" + size(1 + 8 + len(behind)) + b"\x09", behind


def _pack(what: What) -> bytes:
    made = Span(name=cut(what.name), kind=Span.SpanKind.ValueType(what.kind))
    fill(made.attributes, what.attributes)
    what.packed = made.SerializeToString()
    return what.packed


def resource_of(attributes: Mapping[str, str]) -> Resource:
    """Who tells."""
    made = Resource()
    fill(made.attributes, attributes.items())
    return made


def pairs(attributes: Attributes) -> list[KeyValue]:
    made = KeyValueList()
    fill(made.values, attributes)
    return list(made.values)
