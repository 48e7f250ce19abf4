"""What is left of a client when its run is over."""

from __future__ import annotations

import os
import select
import sys
from pathlib import Path

import pytest

from tests.clients.caller import Plan, Record
from tests.clients.clients import Client, Command
from tests.clients.install import Packages
from tests.clients.run import run
from tests.clients.stage import Stage
from tests.unit import fakes

LEAVES_ONE = (
    "import subprocess as s; p = s.Popen(['sleep', '99'], stdout=s.DEVNULL, stderr=s.DEVNULL, "
    "start_new_session=True); "
    'print(\'{"step": "a", "want": "words", "got": "%d"}\' % p.pid)'
)


async def test_what_a_client_leaves_in_a_session_of_its_own_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.clients.run.CACHE", tmp_path)
    command = Command((sys.executable, "-c", LEAVES_ONE))
    client = Client(Packages("pip", ("none",)), lambda _, __: [command], Plan())
    (step,) = await run("a", client, "calls", Stage("http://nowhere", "m", "", Record()))
    assert step.worked, step.said
    assert ends(int(step.said))


def ends(pid: int) -> bool:
    """Whether a process ends. It may still run for a moment once it was sent SIGKILL."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    readable, _, _ = select.select([handle], [], [], fakes.PATIENCE)
    os.close(handle)
    return bool(readable)
