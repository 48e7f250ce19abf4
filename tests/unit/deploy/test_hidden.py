"""Secrets in a command line are covered, and nothing else of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from deploy import hidden

SECRET = "pass-word-of-worker"
ROWS = [
    (f"--nats\0nats://worker:{SECRET}@a:4222,nats://worker:{SECRET}@b:4222\0", True),
    (f"--nats=nats://worker:{SECRET}@[::1]:4222\0--port\x000\0", True),
    (f"--key\0{SECRET}\0--url\0http://a:1\0", True),
    (f"--key={SECRET}\0", True),
    (f"--engine\0llamacpp=http://me:{SECRET}@a:8081\0", True),
    (f"worker\0--join\0hrj1_{SECRET}\0--node\0box\0", True),
    (f"worker\0--join=hrj1_{SECRET}\0", True),
    ("worker\0--join\0@/etc/headrace/token\0", False),
    ("--nats\0nats://a:4222\0--engine\0echo://?model=a\0", False),
    ("key\0create\0me@example.org\0", False),
]


@pytest.mark.parametrize(("line", "has"), ROWS)
def test_covered(line: str, has: bool) -> None:
    assert hidden.has_secrets(line.split("\0")[:-1]) is has
    found = hidden.covered(line.encode())
    assert len(found) == len(line)
    assert SECRET.encode() not in found
    assert (found == line.encode()) is not has


CHILD = """
import sys
from deploy import hidden
assert hidden.has_secrets(sys.argv)
print(hidden.cover(), flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_running_process_shows_none() -> None:
    url = f"nats://worker:{SECRET}@host:4222"
    command = [sys.executable, "-c", CHILD, "--nats", url, "--node", "box"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"True\n"
        shown = Path(f"/proc/{child.pid}/cmdline").read_bytes()
        child.kill()
    assert SECRET.encode() not in shown
    assert shown.endswith(b"@host:4222\0--node\0box\0")
