from __future__ import annotations

import pytest

from schemas import spans


@pytest.mark.parametrize(
    ("text", "found"),
    [("90s", 90), ("0m", 0), ("12h", 43_200), ("7d", 604_800), ("2w", 1_209_600)],
)
def test_a_span_is_so_many_seconds(text: str, found: int) -> None:
    assert spans.seconds(text) == found


@pytest.mark.parametrize(
    "text", ["", "7", "d", "-1d", "1.5h", "1 d", "1D", "1y", "1234567s", "1d\n"]
)
def test_what_is_none(text: str) -> None:
    assert spans.seconds(text) is None
