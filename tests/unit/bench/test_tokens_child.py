"""What a child says arrives whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

LONG = 2**20
"""More than a pipe takes at once."""
INTERRUPTED = f"""
import os, signal
from tests.bench.tokens_child import say
signal.signal(signal.SIGUSR1, lambda *_: os.write(2, b"heard"))
say(b"x" * {LONG})
"""


def test_a_long_line_is_whole_although_a_signal_comes() -> None:
    argv = [sys.executable, "-u", "-c", INTERRUPTED]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdout=pipe, stderr=pipe) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        first = os.read(child.stdout.fileno(), 1)  # it writes, and the pipe is full
        child.send_signal(signal.SIGUSR1)
        assert os.read(child.stderr.fileno(), 5) == b"heard"
        assert first + child.stdout.read() == b"x" * LONG + b"\n"
    assert child.returncode == 0
