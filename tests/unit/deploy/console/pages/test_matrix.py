"""The matrix as its events come."""

from __future__ import annotations

from typing import Any

from deploy.compat.run import CELL
from deploy.console.pages.matrix import Matrix, drawn, said, summary
from schemas.api import sse


def _cell(row: str, answer: str, done: int) -> bytes:
    place = {"object": CELL, "row": row, "title": row.upper(), "model": "m"}
    return sse.dump({**place, "answer": answer, "reason": "seen", "done": done, "of": 2})


def _row(id: str, answer: str) -> dict[str, Any]:
    cells = {"m": {"answer": answer, "reason": "seen"}}
    return {"id": id, "title": id.title(), "proof": "it said so", "cells": cells}


TABLE = {
    "object": "headrace.compat",
    "models": [{"id": "m"}],
    "rows": [_row("chat", "yes"), _row("tools", "no")],
}


def test_cells_are_shown_as_they_come() -> None:
    found = Matrix()
    found.feed(_cell("tools", "no", 1))
    assert (found.share, found.now, found.whole) == (0.5, "m: TOOLS", False)
    assert [(line["title"], line["cells"]) for line in found.lines()] == [
        ("TOOLS", {"m": ("no", "seen")})
    ]


def test_the_table_is_the_end() -> None:
    found = Matrix()
    found.feed(_cell("tools", "no", 1) + _cell("chat", "yes", 2) + sse.dump(TABLE))
    assert found.whole
    assert [line["title"] for line in found.lines()] == ["Chat", "Tools"]
    assert found.counts() == [("m", {"no": 1, "yes": 1})]


def test_an_answer_that_is_not_known_is_said_as_it_is() -> None:
    assert said("yes")[2] == "yes"
    assert said("not_asked")[2] == "not asked"


def test_what_was_seen_is_text_in_the_page() -> None:
    found = Matrix()
    reason = "<script>alert(1)</script>"
    table = {**TABLE, "rows": [_row("chat", "yes") | {"title": "<b>"}]}
    table["rows"][0]["cells"]["m"]["reason"] = reason  # type: ignore[index]
    found.feed(sse.dump(table))
    html = drawn(found)
    assert "<script>" not in html
    assert "<b>" not in html
    assert summary(found) == "m: 1 work, 0 in part, 0 do not"


def test_of_several_models_what_was_seen_opens() -> None:
    found = Matrix()
    cells = {name: {"answer": "no", "reason": "seen"} for name in ("m", "n")}
    row = _row("chat", "no") | {"cells": cells}
    found.feed(sse.dump({**TABLE, "models": [{"id": "m"}, {"id": "n"}], "rows": [row]}))
    assert drawn(found).count("<details>") == 2
