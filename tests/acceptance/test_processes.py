"""``headrace up --processes 2``: real processes through their one port."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from tests.acceptance.headrace_up import PATIENCE, Handles, HeadraceUp, descendants, headrace, up

ECHO = ("--engine", "echo://?model=echo&slots=4")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="one port needs Linux")


def ingresses(running: HeadraceUp) -> list[int]:
    """The pids of those that listen."""
    return [pid for pid, line in descendants(running.pid).items() if " --of " in line]


def seen(running: HeadraceUp) -> list[dict[str, str]]:
    said = headrace("status", "--data", running.data, "--json").stdout
    found: list[dict[str, str]] = json.loads(said)["ingresses"]
    return found


def test_up_has_several_and_status_shows_them_as_one(tmp_path: Path) -> None:
    with up(tmp_path / "data", "--verbose", "--processes", "2", *ECHO) as running:
        running.says("2 processes listen there together")
        assert {each["process"] for each in seen(running)} == {"1/2", "2/2"}
        shown = headrace("status", "--data", running.data).stdout
        assert f"{running.url.removesuffix('/v1')} (2 processes)" in shown

        port = running.url.removesuffix("/v1").rpartition(":")[2]
        other = headrace("ingress", "--data", running.data, "--processes", "2", "--port", port)
        assert other.returncode == 1, "nobody joins them by chance"
        assert "cannot listen" in other.stderr

        first, second = ingresses(running)
        os.kill(first, signal.SIGKILL)
        at = running.says("killed by SIGKILL")
        running.says("OpenAI's API is at", at)
        again = ingresses(running)
        assert second in again
        assert len(again) == 2

        handles = Handles([running.pid, *descendants(running.pid)])
        running.stop(signal.SIGKILL)
        assert handles.wait(PATIENCE), "all end with it"
