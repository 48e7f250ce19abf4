"""Forked processes are such as a shell would start."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests import forks
from tests.forks import Fork

CONFIG = "[nats]\nurl = 'nats://127.0.0.1:1'\n[jobs]\nlease_s = 'long'\n"


async def test_it_has_its_folder_and_environment_and_says_how_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(CONFIG)
    wrong = await _checked({**os.environ, "HEADRACE_CONFIG": "mine.toml"})
    assert await wrong.wait() == 2
    assert b"lease_s" in await wrong.stderr.read()
    right = await _checked({**os.environ})
    assert await right.wait() == 0
    assert await right.stderr.read() == b""


async def _checked(env: dict[str, str]) -> Fork:
    return await forks.start(["config", "check"], env)


async def test_killed_it_is_gone_and_a_later_signal_reaches_nobody() -> None:
    waiting = await forks.start(["worker", "--nats", "nats://a:b@127.0.0.1:1"], os.environ)
    waiting.send_signal(signal.SIGKILL)
    assert await waiting.wait() == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        os.kill(waiting.pid, 0)
    waiting.send_signal(signal.SIGKILL)
    await waiting.stderr.read()
