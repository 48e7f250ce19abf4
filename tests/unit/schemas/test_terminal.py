"""Lines for a terminal, which may be stopped or gone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

import pytest

from schemas import terminal
from schemas.terminal import Terminal


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for each in (reader, writer):
        with suppress(OSError):
            os.close(each)


def test_lines_come_whole_and_in_order(pipe: tuple[int, int]) -> None:
    out = Terminal(pipe[1])
    out.write("one ü\n")
    out.write("two\n")
    out.close()
    assert os.read(pipe[0], 100).decode() == "one ü\ntwo\n"


def test_one_that_is_stopped_stops_nobody(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than a pipe takes, and more than waits here: what is too much is lost."""
    monkeypatch.setattr(terminal, "LAST_WORDS", 0.01)
    monkeypatch.setattr(terminal, "MOST", 4)
    out = Terminal(pipe[1])
    for _ in range(100):
        out.write("x" * 2**16)
    out.close()
    os.close(pipe[0])  # the thread ends, as what it waited for is gone
    assert out._thread is not None
    out._thread.join()


def test_one_that_is_gone_ends_nothing(pipe: tuple[int, int]) -> None:
    os.close(pipe[0])
    out = Terminal(pipe[1])
    out.write("one\n")
    out.write("two\n")
    out.close()
