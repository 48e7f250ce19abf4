"""What of a directory is on the disk, by what strace tells of a program that writes there."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from pathlib import Path

CALLS = (
    "openat,write,pwrite64,writev,pwritev,ftruncate,fsync,fdatasync,rename,renameat,renameat2,"
    "unlink,unlinkat"
)
_PLACE = re.compile(r"\w+\(\d+<([^>]+)>")
_QUOTED = re.compile(r'"([^"]*)"')
_OPENED = re.compile(r"= \d+<([^>]+)>$")
_UNFINISHED, _RESUMED = " <unfinished ...>", re.compile(r"<\.\.\. \w+ resumed>")


class Synced:
    """Copies of files, made when they are synced. `feed` takes the lines of strace."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._copies: dict[str, bytes] = {}
        self._always: set[str] = set()
        """Files that are opened so that each write is synced."""
        self._begun: dict[str, str] = {}
        """Calls that have not returned yet, by thread."""

    def feed(self, line: str) -> None:
        thread, _, call = line.strip().partition(" ")
        call = call.strip()
        if call.endswith(_UNFINISHED):
            self._begun[thread] = call.removesuffix(_UNFINISHED)
            return
        if found := _RESUMED.match(call):
            call = self._begun.pop(thread, "") + call[found.end() :]
        if " = -1 " not in call:
            self._take(call)

    def _take(self, call: str) -> None:
        name = call.partition("(")[0]
        if name.startswith("rename"):
            old, new = _QUOTED.findall(call)[:2]
            self._copies[new] = self._copies.pop(old, b"")
            if old in self._always:
                self._always.add(new)
        elif name.startswith("unlink"):
            for gone in _QUOTED.findall(call)[:1]:
                self._copies.pop(gone, None)
        elif name == "openat":
            if found := _OPENED.search(call):
                keep = self._always.add if "SYNC" in call else self._always.discard
                keep(found[1])
        elif (found := _PLACE.match(call)) and (
            name in ("fsync", "fdatasync") or found[1] in self._always
        ):
            self._copy(found[1])

    def _copy(self, place: str) -> None:
        if place.startswith(self._folder):
            with contextlib.suppress(OSError):  # a folder, or a file that is gone already
                self._copies[place] = Path(place).read_bytes()

    def settle(self) -> None:
        """Half a minute has gone by: the kernel has written all that is there."""
        for place in Path(self._folder).rglob("*"):
            if place.is_file():
                self._copy(str(place))

    def cut(self) -> int:
        """Take from all files what is not synced; the number of bytes that it was."""
        lost = 0
        for place in Path(self._folder).rglob("*"):
            if place.is_file():
                kept = self._copies.get(str(place), b"")
                lost += max(0, place.stat().st_size - len(kept))
                place.write_bytes(kept)
        return lost


class Tracer:
    """A program that runs another under strace, with its pid, and what that has synced. strace ends
    with it."""

    def __init__(self, program: Path, home: Path, folder: Path) -> None:
        self.program = home / program.name
        """To be run in the place of `program`."""
        self.synced = Synced(folder)
        self._pipe = home / "strace"
        os.mkfifo(self._pipe)
        traced = f"strace -D -f -qq -y -s 4096 -e trace={CALLS} -e signal=none -o {self._pipe}"
        self.program.write_text(f'#!/bin/sh\nexec {traced} {program} "$@"\n')
        self.program.chmod(0o755)
        self._start()

    def _start(self) -> None:
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with self._pipe.open(errors="replace") as lines:
            for line in lines:
                self.synced.feed(line)

    def cut(self) -> int:
        """The program was killed: lose what it had not synced. The next one is traced as well."""
        self._reader.join()
        lost = self.synced.cut()
        self._start()
        return lost
