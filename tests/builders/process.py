"""Commands of a build: gentle to the machine, and with a message where they fail."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.builders.errors import BuildError

NICE = 5
_TAIL = 20
"""Lines of a failed command's output that are shown."""
_STEP = re.compile(r"\[(\d+)/(\d+)\]")


def gentle(command: Sequence[str]) -> list[str]:
    """The command with a third of the weight of others: a build takes minutes, and tests run beside
    it, some of which wait for it."""
    nice = shutil.which("nice")
    return [nice, "-n", str(NICE), *command] if nice else list(command)


def failure(what: str, output: str) -> str:
    """`what` and the last lines of `output`."""
    lines = [line for line in output.splitlines() if line.strip()]
    return "\n".join([f"{what}:", *lines[-_TAIL:]])


def run(command: Sequence[str], cwd: Path, step: Callable[[int, int], None] | None = None) -> None:
    """Runs to the end; `step(done, all)` for each ``[done/all]`` that the command prints.

    Raises BuildError with the last lines of what it said.
    """
    said: list[str] = []
    with subprocess.Popen(
        gentle(command),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if step is not None and (match := _STEP.match(line)):
                step(int(match[1]), int(match[2]))
    if process.returncode:
        raise BuildError(failure(f"{Path(command[0]).name} failed", "".join(said)))
