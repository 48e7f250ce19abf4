"""Become a command that dies with the process that started it (Linux); a script, run by its path.

``python -I -S bound.py PARENT COMMAND...``: asks the kernel for SIGKILL at the parent's end, then
replaces itself by COMMAND, so that the pid stays. The death signal outlives execve (prctl(2)).
A `preexec_fn` would do the same between fork and exec, where Python code may deadlock as soon as
the parent has threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1
"""From linux/prctl.h."""
NOT_STARTED = 127
"""Exit code when the command cannot be executed, as shells have it."""


def wrap(command: Sequence[str]) -> list[str]:
    """`command` (an absolute path first) such that it dies with us, even if we are killed.

    The kernel looks at the *thread* that starts it: that must be one that stays.
    """
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def main(parent: int, command: list[str]) -> int:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the kernel was asked
            return NOT_STARTED
    try:
        os.execv(command[0], command)  # noqa: S606 - no shell is wanted
    except OSError as fault:
        sys.stderr.write(f"{command[0]}: {fault.strerror}\n")
        return NOT_STARTED


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
