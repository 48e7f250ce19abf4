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
from tests.unit.ingress.jobs.recorder import START, Holder, RecordedEffects

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
