"""What the server's log says of damaged files. Pure, but for `lines` and `drop`.

The texts are those of nats-server 2.12 to 2.15; it has no other way to tell.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import structlog

log = structlog.get_logger("broker")

_RESTORING = re.compile(r"Starting restore for stream '([^']+)'")
_STATE = re.compile(r"Error adding consumer '(\S+) > (\S+) > (\S+)': .*corrupt state file")
_META = re.compile(r"Error unmarshalling consumer metafile \"(.+)/meta\.inf\"")


def lines(file: Path) -> list[str]:
    """No lines where there is no such file."""
    return file.read_text(errors="replace").splitlines() if file.exists() else []


def of_process(log: list[str], pid: int) -> list[str]:
    """The lines of one run of the server."""
    mark = f"[{pid}]"
    return [line for line in log if line.startswith(mark)]


def stuck(log: list[str]) -> str:
    """Which stream the server reads: with a damaged file it may do so for ever (measured)."""
    begun = [found for line in log if (found := _RESTORING.search(line))]
    if not begun or any(f"messages for stream '{begun[-1][1]}'" in line for line in log):
        return ""
    return f", as it reads the stream {begun[-1][1]!r}, whose files may be damaged"


def spoilt(store: Path, log: list[str]) -> list[Path]:
    """The folders of consumers that the server could not read (measured). Without the state of one
    it makes none of that name any more, and the jobs of a model would wait for ever; one whose
    description it cannot read it takes for that of a newer release, and stops the whole stream."""
    folder = store / "jetstream"
    state = [match.groups() for line in log if (match := _STATE.search(line))]
    found = [
        folder / account / "streams" / stream / "obs" / name for account, stream, name in state
    ]
    found += [Path(match[1]) for line in log if (match := _META.search(line))]
    return [each for each in found if each.is_relative_to(folder)]


def drop(consumers: list[Path]) -> None:
    """Ingresses make them anew. They give out again what was not acked, as they may at any time."""
    for folder in consumers:
        shutil.rmtree(folder, ignore_errors=True)
        log.warning("broker.consumer_begun_anew", consumer=folder.name)
