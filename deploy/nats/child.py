"""A child process that never outlives its parent, not even a parent that was killed.

The kernel's parent-death signal fires when the *thread* that forked ends (prctl(2)), and a caller
may well be a short-lived thread of a pool. So each child has a thread of its own that forks it and
stays until it has ended.
"""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from schemas import settings
from workers.process import die_with_parent


class Child:
    """`command` running in a session of its own, so that Ctrl-C in the terminal reaches the parent
    alone, which stops things in order. `command[0]` is an absolute path.

    `words` gets stdout and stderr, from its beginning; `keep` are descriptors it inherits.
    Raises OSError when no process can be started.
    """

    def __init__(self, command: Sequence[str], *, words: Path, keep: Sequence[int] = ()) -> None:
        self.exited = threading.Event()
        self._born: Future[subprocess.Popen[bytes]] = Future()
        name = f"keeps {Path(command[0]).name}"
        threading.Thread(
            target=self._keep, args=(command, words, keep), name=name, daemon=True
        ).start()
        self._process = self._born.result()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.returncode if self.exited.is_set() else None

    def stop(self, patience: float) -> None:
        """SIGTERM, and after `patience` seconds SIGKILL; returns when it has ended."""
        self._process.send_signal(signal.SIGTERM)
        if not self.exited.wait(patience):
            self.kill()

    def kill(self) -> None:
        """SIGKILL; returns when it has ended."""
        self._process.kill()
        self.exited.wait()

    def _keep(self, command: Sequence[str], words: Path, keep: Sequence[int]) -> None:
        try:
            with words.open("wb") as sink:
                process = subprocess.Popen(  # noqa: S603 - no shell
                    die_with_parent.wrap(command),
                    stdin=subprocess.DEVNULL,
                    stdout=sink,
                    stderr=subprocess.STDOUT,
                    pass_fds=keep,
                    env=settings.outside(),
                    start_new_session=True,
                    umask=0o077,
                )
        except OSError as fault:
            self._born.set_exception(fault)
            return
        self._born.set_result(process)
        process.wait()
        self.exited.set()
