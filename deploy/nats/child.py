"""A child process that never outlives its parent, not even a parent that was killed.

The kernel's parent-death signal fires when the *thread* that forked ends (prctl(2)), and a caller
may well be a short-lived thread of a pool. So one thread that stays forks all of them.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType

from schemas import settings
from workers.process import die_with_parent

Child = subprocess.Popen[bytes]
_FORKS = ThreadPoolExecutor(1, "forks children")


def spawn(
    command: Sequence[str],
    *,
    words: Path,
    keep: Sequence[int] = (),
    variables: Mapping[str, str] = MappingProxyType({}),
) -> Child:
    """`command` running in a session of its own, so that Ctrl-C in the terminal reaches the parent
    alone, which stops things in order. `command[0]` is an absolute path.

    `words` gets stdout and stderr, from its beginning; `keep` are descriptors it inherits;
    `variables` are of its environment, unless ours says otherwise.
    Raises OSError when no process can be started.
    """
    with words.open("wb") as sink:
        return _FORKS.submit(
            subprocess.Popen,
            die_with_parent.wrap(command),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            pass_fds=keep,
            env={**variables, **settings.outside()},
            start_new_session=True,
            umask=0o077,  # whatever it writes is this user's alone
        ).result()


def stop(child: Child, patience: float) -> None:
    """SIGTERM, and after `patience` seconds SIGKILL; returns when the child has ended."""
    child.terminate()
    try:
        child.wait(patience)
    except subprocess.TimeoutExpired:
        kill(child)


def kill(child: Child) -> None:
    """SIGKILL; returns when the child has ended."""
    child.kill()
    child.wait()
