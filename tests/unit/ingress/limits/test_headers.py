"""How long until all of a limit is left, as OpenAI's clients read it."""

from __future__ import annotations

import pytest

from ingress.limits.headers import duration


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0ms"),
        (17, "17ms"),
        (999, "999ms"),
        (1000, "1s"),
        (1500, "1.5s"),
        (59_999, "59.999s"),
        (60_000, "1m0s"),
        (360_000, "6m0s"),
        (72_500, "1m12.5s"),
        (3_600_000, "1h0m0s"),
    ],
)
def test_durations(ms: int, text: str) -> None:
    assert duration(ms) == text
