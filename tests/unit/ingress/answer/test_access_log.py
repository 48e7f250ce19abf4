from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from prometheus_client import REGISTRY
from structlog.testing import LogCapture

from ingress.answer import access_log
from ingress.answer.access_log import record
from ingress.jobs.ticket import Ticket
from schemas import errors
from schemas.frames import Frame, Kind
from tests.unit.ingress.jobs import recorder
from tests.unit.ingress.jobs.recorder import START, FallbackHolder, Holder, RecordedEffects

A = Holder("a", 1)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    capture = LogCapture()
    structlog.configure(processors=[capture])
    monkeypatch.setattr(access_log, "log", structlog.get_logger())
    monkeypatch.setattr("ingress.answer.access_log.time.monotonic", lambda: START + 2.0)
    yield capture.entries  # type: ignore[misc]
    structlog.reset_defaults()


def made(*frames: Frame) -> Ticket:
    ticket = recorder.ticket(RecordedEffects())
    for after, frame in enumerate(frames):
        ticket.frame(frame, START + 0.25 * (after + 1))
    return ticket


def counted(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, {"model": "echo", **labels}) or 0.0


def by_node(node: str) -> float:
    return REGISTRY.get_sample_value("headrace_node_requests_total", {"node": node}) or 0.0


def test_one_line_tells_all_but_what_was_said(lines: list[dict[str, Any]]) -> None:
    before = counted("headrace_tokens_total", kind="completion")
    record(made(A.claim(), A.start(), A.data(2 - 1, b"secret"), A.end(2)), "chat", 200, "req-1")
    (line,) = lines
    assert line["event"] == "request"
    assert (line["id"], line["key"], line["asked"], line["model"]) == (
        "req-1",
        "k1",
        "chat",
        "echo",
    )
    assert (line["ms"], line["queue_ms"], line["ttft_ms"]) == (2000.0, 250.0, 750.0)
    assert (line["prompt_tokens"], line["completion_tokens"]) == (3, 4)
    assert (line["node"], line["attempts"], line["status"]) == ("node-a", 1, 200)
    assert "secret" not in str(line)
    assert "messages" not in str(line)
    assert counted("headrace_tokens_total", kind="completion") == before + 4


def test_an_error_is_told(lines: list[dict[str, Any]]) -> None:
    ticket = made()
    ticket.fail(errors.NoWorker("nobody"))
    record(ticket, "echo", 503, "req-1")
    (line,) = lines
    assert (line["error"], line["why"], line["status"]) == ("no_worker", "nobody", 503)
    assert "node" not in line


@pytest.mark.parametrize(("prompt", "completion"), [(-1, -1), (-1, 5), (5, -1)])
def test_what_an_engine_did_not_count_is_left_out(
    lines: list[dict[str, Any]], prompt: int, completion: int
) -> None:
    end = Frame(Kind.END, A.attempt, A.nonce, 0, (prompt, completion, -1, 0, 0, 0, 0))
    record(made(A.claim(), end), "echo", 200, "req-1")
    (line,) = lines
    assert ("prompt_tokens" in line) == (prompt >= 0)
    assert ("completion_tokens" in line) == (completion >= 0)


def test_time_between_tokens_is_one_mean_an_answer(lines: list[dict[str, Any]]) -> None:
    name = "headrace_inter_token_seconds"
    count, total = counted(f"{name}_count"), counted(f"{name}_sum")
    record(made(A.claim(), A.start(), A.data(1, b"x"), A.end(2)), "echo", 200, "req-1")
    assert counted(f"{name}_count") == count + 1
    # It began at 0.75 s and was over at 2 s, with four tokens.
    assert counted(f"{name}_sum") == pytest.approx(total + 1.25 / 3)


@pytest.mark.parametrize("tokens", [-1, 0, 1])
def test_there_is_no_time_between_fewer_than_two_tokens(
    lines: list[dict[str, Any]], tokens: int
) -> None:
    before = counted("headrace_inter_token_seconds_count")
    end = Frame(Kind.END, A.attempt, A.nonce, 2, (3, tokens, -1, 0, 0, 0, 0))
    record(made(A.claim(), A.start(), A.data(1, b"x"), end), "echo", 200, "req-1")
    assert counted("headrace_inter_token_seconds_count") == before


def test_an_answer_that_is_not_streamed_has_no_time_between_tokens(
    lines: list[dict[str, Any]],
) -> None:
    before = counted("headrace_inter_token_seconds_count")
    ticket = recorder.ticket(RecordedEffects(), stream=False)
    for frame in (A.claim(), A.start(), A.data(1, b"x"), A.end(2)):
        ticket.frame(frame, START + 0.5)
    record(ticket, "echo", 200, "req-1")
    assert counted("headrace_inter_token_seconds_count") == before


def test_who_takes_over_is_counted_and_who_had_it_at_the_end(lines: list[dict[str, Any]]) -> None:
    taken, by_a, by_b = counted("headrace_takeovers_total"), by_node("node-a"), by_node("node-b")
    each = counted("headrace_inter_token_seconds_count")
    b = Holder("b", 2)
    record(
        made(A.claim(), A.fail(0), b.claim(), b.start(), b.data(1, b"x"), b.end(2)),
        "echo",
        200,
        "req-1",
    )
    assert counted("headrace_takeovers_total") == taken + 1
    assert (by_node("node-a"), by_node("node-b")) == (by_a, by_b + 1)
    assert counted("headrace_inter_token_seconds_count") == each


def test_a_job_that_nobody_took_over_is_no_takeover(lines: list[dict[str, Any]]) -> None:
    taken = counted("headrace_takeovers_total")
    ticket = made(A.claim(), A.fail(0))
    ticket.fail(errors.ClientGone("left"))
    record(ticket, "echo", 499, "req-1")
    assert counted("headrace_takeovers_total") == taken


def test_what_a_provider_answers_is_no_nodes(lines: list[dict[str, Any]]) -> None:
    paid = FallbackHolder("f", 1)
    ticket = recorder.ticket(RecordedEffects(), may_leave=True)
    ticket.offer(START)
    for frame in (paid.claim(), paid.start(), paid.data(1, b"x"), paid.end(2)):
        ticket.frame(frame, START + 0.5)
    before = by_node(paid.node)
    record(ticket, "echo", 200, "req-1")
    assert ticket.received.ended is not None
    assert by_node(paid.node) == before
