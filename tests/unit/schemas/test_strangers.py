from __future__ import annotations

from itertools import count

import pytest
import structlog
from structlog.testing import capture_logs

from schemas.jobs import OtherVersion
from schemas.strangers import EVERY, Strangers

FAULT = OtherVersion("job", 1)


def test_each_is_named_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("schemas.strangers.time.monotonic", lambda: now[0])
    found = Strangers(structlog.get_logger("x"), "x.refused")
    with capture_logs() as lines:
        for after in (0.0, 0.0, EVERY * 0.9, EVERY * 0.2):
            now[0] += after
            found.refused("a", FAULT, node="attic")
        found.refused("b", FAULT)
    assert [line["of"] for line in lines] == ["a", "a", "b"]
    assert (lines[0]["event"], lines[0]["version"], lines[0]["node"]) == ("x.refused", 1, "attic")


def test_no_more_are_remembered_than_a_thousand() -> None:
    """Names are made up easily."""
    found = Strangers(structlog.get_logger("x"), "x.refused")
    with capture_logs():
        for _, name in zip(range(3000), map(str, count()), strict=False):
            found.refused(name, FAULT)
    assert len(found._seldom._said) <= 1000
