"""Logs of the processes that `headrace up` runs."""

from __future__ import annotations

import asyncio
from pathlib import Path

from deploy import logs


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
    async with asyncio.timeout(10):
        with logs.file(tmp_path, "worker").open("ab", buffering=0) as log:
            log.write("ä\nsecond ha".encode())
            assert await heard.get() == ("worker", "ä")
            log.write(b"lf\n")
            assert await heard.get() == ("worker", "second half")
        logs.file(tmp_path, "ingress").write_bytes(b"one\n\xff\n")
        assert [await heard.get(), await heard.get()] == [("ingress", "one"), ("ingress", "\ufffd")]
    following.cancel()
    assert heard.empty()
