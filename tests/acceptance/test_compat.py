"""`headrace compat` on the model of the quickstart: what it says of a real llama.cpp."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.headrace_up import headrace, up

YES = (
    *("chat", "completions", "models", "streaming", "json", "logprobs", "n", "temperature"),
    *("max_tokens", "stop", "seed", "keys", "responses", "messages", "count_tokens"),
    *("include_usage", "usage", "json_streamed", "bad_schema", "too_long", "nothing_silent"),
    *("errors", "request_id", "tools", "tools_streamed"),
    *("ollama", "messages_call", "hints", "packed", "resumed"),
)
ONLY = "400 unsupported_endpoint: the model has only /v1/chat/completions, "
NO = {
    **dict.fromkeys(("embeddings", "images", "transcriptions", "translations", "rerank"), ONLY),
    "vision": "cannot see pictures",
}
PARTLY = {
    "several_models": "one model is served now",
    "reachable": "this ingress itself listens on 127.0.0.1 alone",
}


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    with up(tmp_path_factory.mktemp("compat") / "data") as made:
        done = headrace("compat", "--data", made.data, "--json")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        (model,) = found["models"]
        assert model["engines"] == ["embedded"]
        yield {row["id"]: row["cells"][model["id"]] for row in found["rows"]}


def test_what_it_does(cells: dict[str, Any]) -> None:
    missing = {name: cells[name] for name in YES if cells[name]["answer"] != "yes"}
    assert not missing


@pytest.mark.parametrize(("answer", "reasons"), [("no", NO), ("partial", PARTLY)])
def test_what_it_does_not_and_why(
    answer: str, reasons: dict[str, str], cells: dict[str, Any]
) -> None:
    for name, why in reasons.items():
        assert cells[name]["answer"] == answer, cells[name]
        assert why in cells[name]["reason"], cells[name]


def test_a_client_that_leaves_frees_its_slot(cells: dict[str, Any]) -> None:
    assert cells["cancel"]["answer"] == "yes", cells["cancel"]


def test_beside_nothing(tmp_path: Path) -> None:
    done = headrace("compat", "--data", tmp_path)
    assert done.returncode == 1
    assert f"nothing runs on {tmp_path}: start it with 'headrace up'" in done.stderr
    assert "Traceback" not in done.stderr
