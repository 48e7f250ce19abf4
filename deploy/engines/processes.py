"""Processes of this user that are engines, or that are Headrace's own: from ``/proc`` (proc(5)).

Elsewhere than on Linux none are found, and `headrace engine` asks the usual ports alone.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from workers.process import ports

_PROC = Path("/proc")
PROGRAMS = {
    "llama-server": "llamacpp",
    "whisper-server": "whisper",
    "sd-server": "sdcpp",
    "ollama": "ollama",
    "vllm": "vllm",
}
"""Kinds of engines, by the names of their programs."""
_INTERPRETERS = ("python", "sh", "bash", "node")
_ROLES = ("up", "broker", "ingress", "worker", "fallback", "console")
_VLLM = "vllm.entrypoints"
_CONFIG = ("--config", "-c")
_CONFIG_VARIABLE = "HEADRACE_CONFIG"


@dataclass(frozen=True, slots=True)
class Process:
    """`words`: its command line; `folder`: where it works; `takes_hangup`: it has a handler for
    SIGHUP, which would end it otherwise."""

    pid: int
    parent: int
    words: tuple[str, ...]
    folder: str = ""
    takes_hangup: bool = False
    variables: Mapping[str, str] | None = None

    @property
    def program(self) -> str:
        """The name of the engine's program; "" if it is no engine that is known."""
        for word in self._called():
            if os.path.basename(word) in PROGRAMS:
                return os.path.basename(word)
            if word.startswith(_VLLM):
                return "vllm"
        return ""

    @property
    def role(self) -> str:
        """One of `_ROLES`; "" if it is not one of Headrace's processes."""
        for at, word in enumerate(self.words[1:], 1):
            called = os.path.basename(self.words[at - 1]) == "headrace"
            if word in _ROLES and (called or self.words[max(0, at - 2) : at] == ("-m", "deploy")):
                return word
        return ""

    @property
    def config(self) -> Path | None:
        """The file of settings that one of Headrace's processes was started with."""
        named = (self.variables or {}).get(_CONFIG_VARIABLE, "")
        for before, word in zip(self.words, self.words[1:], strict=False):
            if before in _CONFIG:
                named = word
        for word in self.words:
            if word.startswith("--config="):
                named = word.partition("=")[2]
        return _real(Path(self.folder, named)) if named else None

    @property
    def names_engines(self) -> bool:
        """Whether --engine goes before the file's tables."""
        return any(word == "--engine" or word.startswith("--engine=") for word in self.words)

    def _called(self) -> tuple[str, ...]:
        """The words that may name the program: more than one where it is run by another."""
        first = os.path.basename(self.words[0]) if self.words else ""
        return self.words[:4] if first.startswith(_INTERPRETERS) else self.words[:1]


def own() -> dict[int, Process]:
    """All processes of this user, for root those of all users, by pid."""
    found = {}
    for pid in _pids():
        with contextlib.suppress(OSError, ValueError):
            if os.getuid() in (0, (_PROC / str(pid)).stat().st_uid) and (each := _read(pid)):
                found[pid] = each
    return found


def _pids() -> Iterator[int]:
    with contextlib.suppress(OSError):
        for entry in _PROC.iterdir():
            if entry.name.isdecimal():
                yield int(entry.name)


def _read(pid: int) -> Process | None:
    """None for one that has no command line, as it has ended or is the kernel's. Raises OSError."""
    place = _PROC / str(pid)
    words = _texts((place / "cmdline").read_bytes())
    if not words:
        return None
    status = dict(
        line.split(":", 1) for line in (place / "status").read_text().splitlines() if ":" in line
    )
    caught = int(status.get("SigCgt", "0").strip(), 16)  # not each kernel says it
    plain = Process(pid, int(status.get("PPid", "0")), words)
    if not plain.role:
        return plain
    variables = dict(
        text.split("=", 1) for text in _texts((place / "environ").read_bytes()) if "=" in text
    )
    kept = {_CONFIG_VARIABLE: variables.get(_CONFIG_VARIABLE, "")}
    folder, takes = os.readlink(place / "cwd"), bool(caught & 1 << (signal.SIGHUP - 1))
    return Process(pid, plain.parent, words, folder, takes, kept)


def _texts(raw: bytes) -> tuple[str, ...]:
    return tuple(os.fsdecode(each) for each in raw.rstrip(b"\0").split(b"\0")) if raw else ()


def addresses(pid: int, listeners: Mapping[str, tuple[str, int]]) -> list[tuple[str, int]]:
    """Where a process of this user listens."""
    try:
        return [listeners[inode] for inode in ports.sockets_of(pid) if inode in listeners]
    except OSError:
        return []


def above(pid: int, known: Mapping[int, Process]) -> Iterator[Process]:
    """Its parents, as far as they are this user's."""
    seen = {pid}
    while (each := known.get(pid)) is not None and each.parent not in seen:
        pid = each.parent
        seen.add(pid)
        if pid in known:
            yield known[pid]


def workers(config: Path, known: Mapping[int, Process]) -> list[Process]:
    """Headrace's workers that run with this file of settings."""
    place = _real(config)
    return [each for each in known.values() if each.role == "worker" and each.config == place]


def _real(path: Path) -> Path:
    """Without links; one that leads to itself stays as it is."""
    return Path(os.path.realpath(path))
