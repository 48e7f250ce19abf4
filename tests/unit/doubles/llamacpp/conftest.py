"""A llama-server without a model in the test's own loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.doubles.llamacpp.server import LlamaCpp
from tests.doubles.llamacpp.slots import Settings

Start = Callable[[Settings], Awaitable[tuple[LlamaCpp, str]]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Starts one; returns it and its URL."""
    listening: list[LlamaCpp] = []

    async def begin(settings: Settings) -> tuple[LlamaCpp, str]:
        mock = LlamaCpp(settings)
        await mock.listen()
        listening.append(mock)
        return mock, mock.url

    yield begin
    for mock in listening:
        await mock.close()
