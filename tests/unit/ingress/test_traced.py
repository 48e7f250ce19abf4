"""Which spans are made of a request that is over."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.requests import Request

from ingress.app import INFERENCE
from ingress.jobs.custody import Custody, Holder, Tenure
from ingress.jobs.ended import Ended
from ingress.jobs.state import Times
from ingress.jobs.ticket import Ticket
from ingress.traced import Served
from schemas import traces
from schemas.frames import Claim, Role
from schemas.otel.meters import Meters
from schemas.otel.spans import Spans
from schemas.otel.telemetry import Telemetry
from schemas.otel.words import Attributes, What, When
from schemas.traces import Trace

TRACE = Trace("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", True, attempts=True)
PATH = "/v1/chat/completions"
NOW = 1000.0
LINE: Mapping[str, Any] = {
    "model": "m", "lane": "interactive", "key": "k", "stream": True, "status": 200, "attempts": 1,
    "ms": 1000.0, "ttft_ms": 500.0, "completion_tokens": 11,
}  # fmt: skip


class Told:
    """Stands in for spans and meters: (name, its own attributes, error, begin, end) of each."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, dict[str, Any], str, float, float]] = []
        self.ids: list[str] = []
        self.measured: dict[str, float] = {}
        self.about: dict[str, Any] = {}

    def add(
        self,
        what: What,
        trace: Trace,
        span: str,
        when: When,
        more: Attributes = (),
        error: str = "",
        remote: bool = False,
        event: tuple[str, int] | None = None,
    ) -> None:
        attributes = dict((*what.attributes, *more))
        begin, end = (round(moment / 1e9, 3) for moment in when)
        self.spans.append((what.name, attributes, error, begin, end))
        self.ids.append(span)

    def observe(self, about: Attributes, *found: tuple[Any, float]) -> None:
        self.about = dict(about)
        self.measured = {meter.name.rpartition(".")[2]: round(value, 3) for meter, value in found}


def served(path: str = PATH, *, at: float = 0.0) -> Served:
    """Whose clocks both stand at `at`."""
    request = SimpleNamespace(headers={}, scope={"path": path, "state": {"id": "req-1"}})
    told = SimpleNamespace(begin=lambda caller: TRACE)
    found = Served(cast(Telemetry, told), cast(Request, request))
    found.status = 200
    found._began, found._clock = round(at * 1e9), NOW + at
    return found


def over(one: Served) -> Told:
    told = Told()
    one._took = 1.0
    one.tell(cast(Spans, told), cast(Meters, told))
    return told


def holder(nonce: int, since: float, role: Role = Role.WORKER) -> Holder:
    return Holder(Claim(role, "node.1", "node", "engine", "", 0), nonce, NOW + since)


def job(
    *lost: Tenure,
    last: Holder | None = None,
    raced: tuple[Tenure, ...] = (),
    tail: bytes = b"",
    **line: Any,
) -> tuple[Ended, Ticket]:
    """One that came at once, had its first byte after 0.5 s and ended after 0.9 s."""
    times = Times(NOW, NOW, NOW, first=NOW + 0.5)
    ended = Ended(1, "a", 0, {**LINE, **line}, times, list(lost), "node:node", NOW + 0.9)
    custody = cast(Custody, SimpleNamespace(holder=last, raced=raced, lost=lost))
    received = SimpleNamespace(tail=tail)
    return ended, cast(Ticket, SimpleNamespace(custody=custody, received=received))


def tenure(nonce: int, since: float, until: float, by_provider: bool = False) -> Tenure:
    end = NOW + until if until else 0.0
    return Tenure("node", NOW + since, end, by_provider, nonce)


def shown(told: Told) -> list[tuple[str, str, float, float]]:
    return [(name, error, begin, end) for name, _, error, begin, end in told.spans]


def test_one_that_was_held_to_its_end() -> None:
    one = served()
    one.model = "asked"
    one.add(*job(last=holder(7, 0.1)))
    told = over(one)
    assert shown(told) == [
        ("chat asked", "", 0.0, 1.0),
        ("queue", "", 0.0, 0.1),
        ("attempt", "", 0.1, 0.9),
    ]
    assert told.ids[0] == TRACE.span
    assert told.ids[2] == traces.attempt_span(7)
    measured = {"duration": 1.0, "time_to_first_token": 0.5, "time_per_output_token": 0.05}
    assert told.measured == measured
    assert told.about["gen_ai.request.model"] == "asked"


def test_one_that_was_lost_waits_again() -> None:
    one = served()
    one.add(*job(tenure(1, 0.1, 0.3), last=holder(2, 0.4)))
    assert shown(over(one))[1:] == [
        ("queue", "", 0.0, 0.1),
        ("attempt", "lost", 0.1, 0.3),
        ("queue", "", 0.3, 0.4),
        ("attempt", "", 0.4, 0.9),
    ]


def test_who_raced_in_vain_raced_until_the_first_byte() -> None:
    one = served()
    raced = tenure(3, 0.2, 0.0, by_provider=True), tenure(4, 0.2, 0.25, by_provider=True)
    one.add(*job(last=holder(1, 0.1), raced=raced))
    told = over(one)
    assert shown(told)[1:3] == [("attempt", "outrun", 0.2, 0.5), ("attempt", "outrun", 0.2, 0.25)]
    assert told.spans[1][1]["headrace.by"] == "provider"


def test_the_provider_that_won_held_the_copy_before_the_worker_lost() -> None:
    one = served()
    one.add(*job(tenure(1, 0.1, 0.5), last=holder(2, 0.2, Role.FALLBACK)))
    assert shown(over(one))[1:] == [
        ("queue", "", 0.0, 0.1),
        ("attempt", "lost", 0.1, 0.5),
        ("attempt", "", 0.2, 0.9),
    ]


def test_one_that_nobody_took() -> None:
    one = served()
    one.status = 503
    one.add(*job(status=503, error="no_worker", ttft_ms=0.0))
    told = over(one)
    assert shown(told) == [("chat", "no_worker", 0.0, 1.0), ("queue", "", 0.0, 0.9)]
    assert told.measured == {"duration": 1.0}
    assert told.about["error.type"] == "no_worker"


def test_a_stream_that_breaks_has_failed_though_it_was_200() -> None:
    one = served()
    one.add(*job(last=holder(1, 0.1), status=502, error="stream_interrupted"))
    told = over(one)
    assert [span[2] for span in told.spans] == ["stream_interrupted", "", "stream_interrupted"]
    assert told.spans[0][1]["http.response.status_code"] == 502


@pytest.mark.parametrize(("status", "error"), [(404, "model_not_found"), (499, "client_gone")])
def test_a_clients_own_fault_is_no_failure(status: int, error: str) -> None:
    one = served()
    one.status, one.error = status, error
    [(_, attributes, failed, *_)] = over(one).spans
    assert (attributes["error.type"], failed) == (error, "")


def test_the_time_of_a_token_is_not_known_of_a_stream_that_was_continued() -> None:
    """Not all of its tokens need be in the number."""
    one = served()
    one.add(*job(tenure(1, 0.1, 0.3), last=holder(2, 0.4)))
    assert over(one).measured == {"duration": 1.0, "time_to_first_token": 0.5}


def test_what_is_not_sampled_is_measured_alone() -> None:
    one = served()
    one.trace = Trace(TRACE.id, TRACE.span, False)
    one.add(*job(last=holder(1, 0.1)))
    told = over(one)
    assert told.spans == []
    assert told.measured["duration"] == 1.0


@pytest.mark.parametrize(
    ("tail", "reasons"),
    [
        (b'{"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n', ("stop",)),
        (b'{"finish_reason": "length", "x": 1}', ("length",)),
        (b'"stop_reason":"end_turn"}}\n\ndata: {"type":"message_stop"}', ("end_turn",)),
        (b'{"finish_reason":"tool_calls"} {"finish_reason":null}', ("tool_calls",)),
        (b'{"content":"say \\"finish_reason\\":\\"stop\\""}', None),
        (b"", None),
    ],
)
def test_why_an_answer_ended(tail: bytes, reasons: tuple[str, ...] | None) -> None:
    one = served()
    one.add(*job(last=holder(1, 0.1), tail=tail))
    assert over(one).spans[0][1].get("gen_ai.response.finish_reasons") == reasons


@pytest.mark.parametrize(
    ("path", "operation"),
    [
        (PATH, "chat"),
        ("/chat/completions", "chat"),
        ("/v1/messages", "chat"),
        ("/v1/responses", "chat"),
        ("/v1/completions", "text_completion"),
        ("/completion", "text_completion"),
        ("/v1/embeddings", "embeddings"),
        ("/v1/audio/transcriptions", "transcriptions"),
        ("/api/chat", "chat"),
        ("/api/generate", "text_completion"),
        ("/api/embed", "embeddings"),
    ],
)
def test_operations_are_called_as_the_conventions_have_them(path: str, operation: str) -> None:
    assert path in INFERENCE
    assert over(served(path)).spans[0][0] == operation


def test_pages_that_no_model_answers_have_no_trace() -> None:
    assert not {"/v1/models", "/metrics", "/healthz", "/v1/queue", "/api/tags"} & INFERENCE
