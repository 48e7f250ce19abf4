"""Requests as the console's table shows them."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.console.pages import rows

DONE: dict[str, Any] = {
    "id": "j1", "request": "r1", "state": "ended", "status": 200, "key": "alice", "account": "lab",
    "asked": "chat", "model": "smol", "node": "box", "attempts": 1, "stream": True,
    "endpoint": "/v1/chat/completions", "arrived": 100.0, "took": 1.5, "queued_for": 0.25,
    "ttft": 0.5, "completion_tokens": 40, "prompt_tokens": 12, "cached_tokens": 8,
    "tokens_per_second": 39.0,
}  # fmt: skip
QUEUED: dict[str, Any] = {"id": "j2", "state": "queued", "key": "bob", "model": "smol", "took": 3.0}
PAID = {**DONE, "id": "j3", "served_by": "provider:openai", "node": "", "cost": "0.0012"}
FAILED = {**DONE, "id": "j4", "status": 502, "error": "engine_failed", "why": "it broke"}
GONE = {**DONE, "id": "j5", "status": 499, "error": "client_gone"}
ALL = [QUEUED, DONE, PAID, FAILED, GONE]


def found(wanted: str, text: str = "") -> list[str]:
    return [row["id"] for row in rows.chosen(ALL, wanted, text)]


def test_each_cell_says_what_is_known() -> None:
    shown = rows.cells(DONE)
    assert shown["model"] == "chat → smol"
    assert (shown["state"], shown["tone"]) == ("done", "good")
    assert (shown["wait"], shown["ttft"], shown["rate"]) == ("250 ms", "500 ms", "39.0")
    assert (shown["took"], shown["cost"], shown["by"]) == ("1.50 s", "$0", "box")


def test_what_is_not_known_is_not_made_up() -> None:
    shown = rows.cells(QUEUED)
    assert shown["wait"] == "3.00 s"
    assert {shown[name] for name in ("by", "ttft", "rate", "cost")} == {rows.NOTHING}


def test_who_was_paid_is_said() -> None:
    assert rows.cells(PAID)["by"] == "provider openai"
    assert rows.cells(PAID)["cost"] == "$0.0012"


def test_an_answer_that_was_kept_is_said_to_be() -> None:
    shown = rows.cells({**DONE, "served_by": "cache", "cache": "hit", "node": "", "attempts": 0})
    assert (shown["by"], shown["cost"]) == ("kept answer", "$0")


@pytest.mark.parametrize(
    ("more", "state", "tone"),
    [
        ({"error": "engine_failed", "status": 502}, "failed: engine_failed", "bad"),
        ({"error": "request_cancelled", "status": 499}, "cancelled", "off"),
        ({"error": "client_gone", "status": 499}, "client left", "off"),
        ({"status": 400}, "refused: 400", "bad"),
        ({"state": "running"}, "running", "run"),
    ],
)
def test_how_it_ended_is_said_in_words(more: dict[str, Any], state: str, tone: str) -> None:
    row = {**DONE, **more}
    assert (rows.state(row), rows.tone(row)) == (state, tone)


def test_rows_are_chosen_by_state() -> None:
    assert found("all") == ["j2", "j1", "j3", "j4", "j5"]
    assert found("live") == ["j2"]
    assert found("ended") == ["j1", "j3", "j4", "j5"]
    assert found("failed") == ["j4"]


def test_each_word_of_a_filter_is_somewhere() -> None:
    assert found("all", "BOB") == ["j2"]
    assert found("all", "openai chat") == ["j3"]
    assert found("all", "engine_failed alice") == ["j4"]
    assert found("all", "nobody") == []


def test_facts_leave_out_what_is_not_there() -> None:
    assert dict(rows.facts(FAILED))["Why"] == "it broke"
    assert dict(rows.facts(DONE))["Tokens"] == "12 in (8 cached), 40 out"
    assert "First token" not in dict(rows.facts(QUEUED))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (0, "0 ms"),
        (0.0124, "12 ms"),
        (0.9996, "1.00 s"),
        (9.994, "9.99 s"),
        (83.4, "83 s"),
        (None, "–"),
    ],
)
def test_times_are_short(given: float | None, said: str) -> None:
    assert rows.seconds(given) == said
