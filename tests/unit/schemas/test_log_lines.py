"""What the log says to people."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from schemas import log_lines

ROOT = Path(__file__).parents[3]
_TEXT = re.compile(r'"([\w.{}]+)"')
_REQUEST: dict[str, Any] = {
    "event": "request",
    "status": 200,
    "endpoint": "/v1/chat/completions",
    "asked": "echo",
    "key": "alice",
    "ms": 812.4,
}


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (
            {"event": "engine.ready", "engine": "gpu", "models": ["a", "b"], "slots": 4},
            "engine gpu is ready, 4 slots: a, b",
        ),
        ({"event": "engine.ready", "engine": "gpu"}, "engine gpu is ready"),
        (
            {"event": "engine.failed", "engine": "gpu", "reason": "away", "hint": "Start it"},
            "engine gpu failed: away. Start it; it is tried again",
        ),
        (
            {"event": "bus.connected", "url": "nats://h:4222", "user": "worker"},
            "connected to the broker at nats://h:4222 as worker",
        ),
        (
            {"event": "bus.connected", "url": "nats://h:4222", "user": ""},
            "connected to the broker at nats://h:4222",
        ),
        (
            {"event": "worker.draining", "jobs": 0},
            "stops: takes no new work, nothing left to finish",
        ),
        ({"event": "worker.draining", "jobs": 2}, "stops: takes no new work, 2 left to finish"),
        ({"event": "worker.lost", "holder": "n.1", "drained": True}, "worker n.1 left"),
        ({"event": "worker.lost", "holder": "n.1"}, "worker n.1 lost its connection"),
        (
            {"event": "consumer.pulls_lost", "model": "m", "pulls": 2},
            "2 requests for jobs of m were lost; they are made again",
        ),
        (
            {"event": "models.changed", "added": ["a"], "gone": ["b", "c"], "models": 7},
            "models: served now: a; not served any more: b, c (7 in all)",
        ),
        (
            _REQUEST | {"node": "attic", "queue_ms": 0.2, "ttft_ms": 20.1},
            "200 /v1/chat/completions echo for alice at attic: 812 ms, first byte after 20",
        ),
        (
            _REQUEST | {"queue_ms": 600.0, "prompt_tokens": 12, "completion_tokens": 30},
            "200 /v1/chat/completions echo for alice: 812 ms, 600 in the queue, 12 + 30 tokens",
        ),
        (
            _REQUEST | {"status": 502, "error": "engine_failed", "why": "It broke."},
            "502 /v1/chat/completions echo for alice: 812 ms: engine_failed: It broke.",
        ),
    ],
)
def test_the_words_of(event: dict[str, Any], said: str) -> None:
    assert log_lines.line(event) == said


def test_an_event_without_words_is_shown_as_it_is() -> None:
    event = {"event": "x.y", "level": "info", "timestamp": 1, "a": "b c", "n": 1}
    assert log_lines.line(event) == "x.y a=b c n=1"


def test_an_event_without_the_fields_of_its_words_is_shown_as_it_is() -> None:
    assert log_lines.line({"event": "process.said", "odd": 1}) == "process.said odd=1"


def test_nothing_is_said_that_a_terminal_obeys() -> None:
    event = {"event": "process.said", "process": "p", "line": "\x1b[2J\nü\u202e"}
    assert log_lines.line(event) == "program p: \\x1b[2J\\nü\\u202e"


def test_each_event_with_words_is_logged_somewhere() -> None:
    packages = ("schemas", "ingress", "workers", "fallback", "deploy")
    files = [path for each in packages for path in (ROOT / each).rglob("*.py")]
    texts = [path.read_text() for path in files if path.name != "log_lines.py"]
    logged = {name for text in texts for name in _TEXT.findall(text)}
    roles = {name.replace("{self.role}", each).replace("{role}", each) for name in logged
             for each in ("worker", "fallback")}  # fmt: skip
    states = {f"engine.{each}" for each in ("starting", "ready", "failed", "stopping")}
    assert set(log_lines.SAID) <= logged | roles | states
