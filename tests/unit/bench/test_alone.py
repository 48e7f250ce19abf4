"""The measuring of Python alone still fits the ingress that it measures."""

from __future__ import annotations

import pytest

from tests.bench.alone import measured


@pytest.mark.parametrize("stream", [False, True])
async def test_all_requests_are_answered(stream: bool) -> None:
    found = await measured(stream, 2)
    assert len(found) == 2
    assert min(found) > 0
