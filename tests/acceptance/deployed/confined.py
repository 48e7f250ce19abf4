"""``python -m tests.acceptance.deployed.confined COMMAND …``: runs it with the system calls that
the units of `deploy/systemd/` allow and no others, and with memory that is never both writable and
executable, as systemd would. Linux, and libseccomp, which systemd itself needs."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
from pathlib import Path

UNITS = Path(__file__).parents[3] / "deploy" / "systemd"
_GROUP = "@system-service"
_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000 | errno.EPERM
_NO_NEW_PRIVILEGES, _MEMORY = 38, 65
_UNKNOWN = -1


def calls(group: str) -> list[str]:
    """The names of the system calls of a group, by systemd's own table."""
    done = subprocess.run(
        ["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True
    )
    words = [line.strip() for line in done.stdout.splitlines()[1:]]
    names = [word for word in words if word and word[0] not in "#@"]
    return [*names, *(name for word in words if word[:1] == "@" for name in calls(word))]


def confine() -> bool:
    """From now on. False: this kernel cannot forbid memory to be written and executed."""
    assert (
        f"SystemCallFilter={_GROUP}\n"
        in (UNITS / "headrace-.service.d" / "hardening.conf").read_text()
    )
    names = sorted({*calls(_GROUP)})
    libc = ctypes.CDLL(None, use_errno=True)
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_REFUSE)))
    for name in names:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number != _UNKNOWN:
            library.seccomp_rule_add(context, ctypes.c_uint32(_ALLOW), number, 0)
    assert libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
    memory = bool(libc.prctl(_MEMORY, 1, 0, 0, 0) == 0)
    assert library.seccomp_load(context) == 0
    return memory


if __name__ == "__main__":
    confine()
    os.execvp(sys.argv[1], sys.argv[1:])
