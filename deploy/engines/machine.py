"""What this machine has for models: memory, graphics cards, and programs in PATH."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Gpu = Literal["", "nvidia", "rocm", "metal"]

SERVERS = {"llamacpp": "llama-server", "whisper": "whisper-server", "sdcpp": "sd-server"}
"""The program of each kind that serves a model's file."""
_SMI = ("nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits")
_SMI_PATIENCE = 10.0
_SHARED = 0.7
"""Of an Apple machine's memory, as much its GPU may use."""
_LEAST_CARD = 2 * 2**30
"""Bytes of a graphics card that is worth it: those within processors say less."""


@dataclass(frozen=True, slots=True)
class Machine:
    """`memory`: bytes that programs may still take; `gpu_memory`: those of all its graphics cards,
    0 if unknown. `programs`: where they are, by name. `built_in`: whether the llama.cpp server
    that comes along is installed."""

    memory: int
    gpu: Gpu = ""
    gpu_memory: int = 0
    programs: dict[str, str] = field(default_factory=dict)
    built_in: bool = False

    @property
    def has_gpu(self) -> bool:
        return bool(self.gpu)


def look(names: Iterable[str] = (*SERVERS.values(), "ollama")) -> Machine:
    """Asks the kernel, and nvidia-smi where there is one."""
    memory = available()
    gpu, gpu_memory = _card(memory)
    found = {name: path for name in names if (path := program(name))}
    built_in = importlib.util.find_spec("xllamacpp") is not None
    return Machine(memory, gpu, gpu_memory, found, built_in)


def program(name: str) -> str:
    """The absolute path of a program, by its name in PATH or its own path; "" if there is none."""
    found = shutil.which(os.path.expanduser(name))
    return os.path.abspath(found) if found else ""


def available() -> int:
    """Bytes of memory that programs may take, in a container no more than that has left."""
    try:
        told = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        told = None
    if told is not None:
        whole = int(told[1]) * 1024
    else:
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(whole, _container())


def _container() -> int:
    """Bytes that are left of the container's limit (cgroup v2)."""
    place = Path("/sys/fs/cgroup")
    try:
        limit = int((place / "memory.max").read_text())
        used = int((place / "memory.current").read_text())
        cached = re.search(r"^file (\d+)$", (place / "memory.stat").read_text(), re.MULTILINE)
    except (OSError, ValueError):  # there is no such limit: "max"
        return sys.maxsize
    # What files are kept of is given back when a program wants it.
    return max(0, limit - used + (int(cached[1]) if cached else 0))


def _card(memory: int) -> tuple[Gpu, int]:
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return "metal", int(memory * _SHARED)
    if Path("/dev/nvidiactl").exists() or Path("/proc/driver/nvidia/gpus").exists():
        return "nvidia", free_of(_smi())
    if Path("/dev/kfd").exists() and (free := _amd()):
        return "rocm", free
    return "", 0


def _smi() -> str:
    """One line a card, with the MiB that it has free; "" if it does not answer."""
    if not (program := shutil.which(_SMI[0])):
        return ""
    try:
        done = subprocess.run(  # noqa: S603 - no word of it is anybody else's
            [program, *_SMI[1:]],
            capture_output=True,
            text=True,
            timeout=_SMI_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def free_of(said: str) -> int:
    """Bytes, of the lines that nvidia-smi writes. Pure."""
    return sum(int(line) for line in said.split() if line.isdecimal()) * 2**20


def _amd() -> int:
    """Bytes that are free on the cards of AMD's driver."""
    free = 0
    for card in Path("/sys/class/drm").glob("card*/device"):
        try:
            whole = int((card / "mem_info_vram_total").read_text())
            used = int((card / "mem_info_vram_used").read_text())
        except (OSError, ValueError):
            continue
        free += whole - used if whole >= _LEAST_CARD else 0
    return free
