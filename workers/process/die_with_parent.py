"""A script, run by its path: becomes a command that dies with its parent process (Linux).

``python -I -S die_with_parent.py PARENT COMMAND...`` asks the kernel for SIGKILL when the parent
ends, then replaces itself by COMMAND, so the pid stays the same. The death signal survives execve
(prctl(2)). A `preexec_fn` could ask the kernel as well, but it runs Python code between fork and
exec, which may deadlock if the parent has threads.
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
"""Exit code when the command cannot be executed; shells use the same."""


def wrap(command: Sequence[str]) -> list[str]:
    """Wrap `command` (an absolute path first) so that it dies with this process, even by SIGKILL.

    The kernel binds it to the *thread* that starts it, so a thread that stays must start it.
    """
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def main(parent: int, command: list[str]) -> int:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent ended before the kernel was asked
            return NOT_STARTED
    # It returns only if it fails.
    try:
        os.execv(command[0], command)  # noqa: S606 - no shell is wanted
    except OSError as fault:
        sys.stderr.write(f"{command[0]}: {fault.strerror}\n")
        return NOT_STARTED


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
