"""Logs of the processes that `headrace up` runs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from deploy import logs
from tests.unit.fakes import PATIENCE


def test_each_run_has_new_ones_and_keeps_the_last(tmp_path: Path) -> None:
    for run in ("first", "second", "third"):
        logs.prepare(tmp_path)
        folder = logs.folder(tmp_path)
        assert folder.stat().st_mode & 0o777 == 0o700
        for process in logs.PROCESSES:
            path = logs.file(tmp_path, process)
            assert (path.stat().st_mode & 0o777, path.read_text()) == (0o600, "")
            path.write_text(run)
    assert sorted((each.name, each.read_text()) for each in folder.iterdir()) == [
        ("console.log", "third"),
        ("console.log.1", "second"),
        ("fallback.log", "third"),
        ("fallback.log.1", "second"),
        ("ingress.log", "third"),
        ("ingress.log.1", "second"),
        ("worker.log", "third"),
        ("worker.log.1", "second"),
    ]


async def test_whole_lines_are_followed(tmp_path: Path) -> None:
    logs.prepare(tmp_path)
    heard: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
    following = asyncio.create_task(logs.follow(tmp_path, lambda *said: heard.put_nowait(said)))
    async with asyncio.timeout(PATIENCE):
        with logs.file(tmp_path, "worker").open("ab", buffering=0) as log:
            log.write("ä\nsecond ha".encode())
            assert await heard.get() == ("worker", "ä")
            log.write(b"lf\n")
            assert await heard.get() == ("worker", "second half")
        logs.file(tmp_path, "ingress").write_bytes(b"one\n\xff\n")
        assert [await heard.get(), await heard.get()] == [("ingress", "one"), ("ingress", "\ufffd")]
    following.cancel()
    assert heard.empty()


def test_a_log_that_is_too_large_begins_anew(tmp_path: Path) -> None:
    logs.prepare(tmp_path)
    path = logs.file(tmp_path, "worker")
    with path.open("ab", buffering=0) as process:
        process.write(b"a" * 100)
        assert not logs.begin_anew(path, 100)
        process.write(b"b")
        assert logs.begin_anew(path, 100)
        process.write(b"new\n")
    kept = path.with_name("worker.log.1")
    assert (path.read_bytes(), kept.read_bytes()) == (b"new\n", b"a" * 100 + b"b")
    assert (path.stat().st_mode & 0o777, kept.stat().st_mode & 0o777) == (0o600, 0o600)


async def test_one_that_began_anew_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_EACH", 0.01)
    logs.prepare(tmp_path)
    heard: asyncio.Queue[str] = asyncio.Queue()
    following = asyncio.create_task(logs.follow(tmp_path, lambda _, line: heard.put_nowait(line)))
    path = logs.file(tmp_path, "worker")
    async with asyncio.timeout(PATIENCE):
        with path.open("ab", buffering=0) as log:
            log.write(b"before\n" * 20)
            for _ in range(20):
                assert await heard.get() == "before"
            bounding = asyncio.create_task(logs.bounded(tmp_path, 100))
            while path.stat().st_size:
                await asyncio.sleep(0.01)
            log.write(b"after\n")
            assert await heard.get() == "after"
    for task in (following, bounding):
        task.cancel()
