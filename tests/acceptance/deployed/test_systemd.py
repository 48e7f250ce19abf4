"""The units of `deploy/systemd/`, by systemd's own judgement; and whether Headrace works within the
bounds that they set."""

from __future__ import annotations

import errno
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from openai import OpenAI

from schemas.settings import Settings
from tests.acceptance.deployed import confined
from tests.acceptance.deployed.confined import UNITS
from tests.acceptance.headrace_up import HEADRACE, LAST_LINE, Running
from tests.commands import taken

FILES = sorted(UNITS.glob("*.service"))
NAMES = [path.name.replace("@", "@gpu0") for path in FILES]
ENGINES_END = 5
"""Seconds that a worker gives its engines to end."""

pytestmark = pytest.mark.skipif(
    not (shutil.which("systemd-analyze") and Path("/usr/lib/systemd/system").is_dir()),
    reason="systemd is not installed",
)
Analyze = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine where the units are installed, as far as systemd-analyze looks."""
    own = tmp_path / "etc" / "systemd" / "system"
    shutil.copytree(UNITS, own, ignore=shutil.ignore_patterns("README.md"))
    shutil.copytree(
        "/usr/lib/systemd/system", tmp_path / "usr" / "lib" / "systemd" / "system", symlinks=True
    )
    for program in ("usr/local/bin/headrace", "bin/kill"):
        (tmp_path / program).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy("/bin/true", tmp_path / program)
    return tmp_path


@pytest.fixture
def analyze(root: Path) -> Analyze:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = ["systemd-analyze", "--no-pager", f"--root={root}", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    return run


@pytest.mark.parametrize("name", NAMES)
def test_systemd_takes_it(analyze: Analyze, name: str) -> None:
    done = analyze("verify", "--man=no", "--recursive-errors=no", name)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_what_systemd_does_not_take_would_be_seen(analyze: Analyze, root: Path) -> None:
    path = root / "etc" / "systemd" / "system" / "headrace-broker.service"
    path.write_text(path.read_text().replace("KillMode=", "KillMood="))
    done = analyze("verify", "--man=no", "--recursive-errors=no", path.name)
    assert "KillMood" in done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_it_is_exposed_to_little(analyze: Analyze, name: str) -> None:
    """2.0 of 10, of which 1.0 are that it uses the network at all."""
    done = analyze("security", "--offline=yes", "--threshold=20", name)
    assert done.returncode == 0, done.stdout


def test_with_a_gpu_it_is_exposed_to_little_more(analyze: Analyze, root: Path) -> None:
    own = root / "etc" / "systemd" / "system" / "headrace-worker@gpu0.service.d"
    own.mkdir()
    shutil.copy(UNITS / "gpu.conf", own)
    assert analyze("verify", "--man=no", "headrace-worker@gpu0.service").stderr == ""
    done = analyze("security", "--offline=yes", "--threshold=26", "headrace-worker@gpu0.service")
    assert done.returncode == 0, done.stdout
    assert "DeviceAllow=" in done.stdout


def setting(path: Path, name: str) -> str:
    [value] = re.findall(rf"^{name}=(.*)$", path.read_text(), re.MULTILINE)
    return str(value)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_its_command_is_one(path: Path) -> None:
    program, role, *options = shlex.split(setting(path, "ExecStart"))
    assert program == "/usr/local/bin/headrace"
    taken([role, *options])


def test_it_has_the_time_to_drain() -> None:
    settings = Settings()
    drains = {
        "headrace-ingress": settings.ingress.drain,
        "headrace-worker@": settings.worker.drain + ENGINES_END,
        "headrace-fallback": settings.worker.drain,
    }
    for name, drain in drains.items():
        assert int(setting(UNITS / f"{name}.service", "TimeoutStopSec")) >= drain + 10


def test_all_works_within_these_bounds(tmp_path: Path) -> None:
    """Everything on one machine, the small real model included, with no more of the environment
    than systemd gives."""
    inside = [sys.executable, "-m", confined.__name__, *HEADRACE]
    words = [*inside, "up", "--data", str(tmp_path / "data"), "--port", "0"]
    python = os.environ.get("PYTHONPATH", "")
    running = Running(words, {"PATH": os.defpath, "PYTHONPATH": python}, UNITS.parents[1])
    try:
        running.says(LAST_LINE)
        url = next(line.split()[-1] for line in running.lines if "base URL" in line)
        client = OpenAI(base_url=url, api_key=(tmp_path / "data" / "key").read_text().strip())
        [model] = [each.id for each in client.models.list()]
        answer = client.chat.completions.create(
            model=model, max_tokens=4, messages=[{"role": "user", "content": "hello"}]
        )
        assert answer.usage
        assert answer.usage.completion_tokens
        assert running.stop() == 0
    finally:
        running.reap()


def test_the_bounds_are_felt() -> None:
    code = (
        "import ctypes, mmap; ctypes.CDLL(None, use_errno=True).swapoff(b'/none');"
        "print(ctypes.get_errno()); mmap.mmap(-1, 1, prot=7)"
    )
    words = [sys.executable, "-m", confined.__name__, sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, cwd=UNITS.parents[1], check=False)
    assert done.stdout == f"{errno.EPERM}\n"
    assert "Permission denied" in done.stderr
