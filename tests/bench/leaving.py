"""How soon a real llama-server's slot is free once a client has left, through Headrace and without.

    scripts/bench leaving [--times 50]

The server has one slot and the small model of the quickstart. A client leaves while its prompt is
computed, while its answer is, or while it waits behind another one, streamed or not. What is told
is the time from its `close` to `/slots` saying that the slot is free.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from schemas.api import endpoints
from tests.acceptance.conftest import MODEL, RealLlama, running_llama
from tests.bench import report
from tests.bench.procs import exiting_on_sigterm
from tests.bench.stats import percentile
from tests.bench.system import Engine, System, started

PATIENCE = 30.0
LONG = 20
"""Words of a prompt that takes a while to compute."""
SHORT = 5
_marks = itertools.count()


@dataclass
class Client:
    """One connection with one request."""

    link: socket.socket

    @classmethod
    def ask(cls, system: System, words: int, stream: bool) -> Client:
        """No two prompts begin alike, so that none is in the server's cache."""
        said = f"{next(_marks)} " + " ".join(f"wheel{at}" for at in range(words))
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": said}],
            "stream": stream,
            "max_tokens": 400,
            "ignore_eos": True,
        }
        data, found = json.dumps(body).encode(), urlsplit(system.url)
        head = (
            f"POST {endpoints.CHAT.path} HTTP/1.1\r\nHost: {found.netloc}\r\n"
            f"Authorization: Bearer {system.key}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(data)}\r\n\r\n"
        )
        link = socket.create_connection((found.hostname or "", found.port or 0))
        link.sendall(head.encode() + data)
        return cls(link)

    def leave(self) -> float:
        """When it left."""
        left = time.monotonic()
        self.link.close()
        return left


class Slot:
    """The one slot, as the server shows it."""

    def __init__(self, llama: RealLlama) -> None:
        self._where = urlsplit(llama.url).netloc

    def page(self) -> dict[str, Any]:
        with closing(http.client.HTTPConnection(self._where, timeout=PATIENCE)) as link:
            link.request("GET", "/slots")
            [slot] = json.loads(link.getresponse().read())
            assert isinstance(slot, dict)
            return slot

    def until(self, wanted: Callable[[dict[str, Any]], bool]) -> float:
        """When the page was as wanted. Raises TimeoutError."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if wanted(self.page()):
                return time.monotonic()
            time.sleep(0.001)
        raise TimeoutError("the slot never got there")

    def busy(self, tokens: int) -> None:
        """Wait until it computes, and so many tokens of its answer are there."""
        self.until(lambda page: bool(page["is_processing"]) and _decoded(page) >= tokens)

    def free(self) -> float:
        return self.until(lambda page: not page["is_processing"])


def _decoded(page: dict[str, Any]) -> int:
    found = page.get("next_token") or {}
    found = found[0] if isinstance(found, list) else found
    return int(found.get("n_decoded", 0))


def prompt(system: System, slot: Slot, stream: bool) -> float:
    """while its prompt is computed"""
    client = Client.ask(system, LONG, stream)
    slot.busy(0)
    return -client.leave() + slot.free()


def answer(system: System, slot: Slot, stream: bool) -> float:
    """while its answer is computed"""
    client = Client.ask(system, SHORT, stream)
    slot.busy(5)
    return -client.leave() + slot.free()


def queued(system: System, slot: Slot, stream: bool) -> float:
    """behind another one: till the next in line has the slot, once that one has left, too"""
    first = Client.ask(system, SHORT, True)
    slot.busy(2)
    before = slot.page().get("id_task")
    waiting = Client.ask(system, LONG, stream)
    time.sleep(0.5)
    waiting.leave()
    time.sleep(0.5)
    left = first.leave()
    free = slot.free()
    time.sleep(0.1)
    page = slot.page()
    assert (page["is_processing"], page.get("id_task")) == (False, before), "a job ran in vain"
    return free - left


def rows(times: int) -> Iterator[str]:
    with (
        tempfile.TemporaryDirectory(prefix="headrace-leaving-") as scratch,
        running_llama("--slots", "1", "--context", "4096") as llama,
        started(Path(scratch) / "one", MODEL, [Engine("real", llama.url)]) as fabric,
    ):
        slot = Slot(llama)
        for system in (fabric, System(llama.url, "")):
            name = "Headrace" if system is fabric else "llama-server alone"
            cases = (prompt, answer, queued) if system is fabric else (prompt, answer)
            for case, stream in itertools.product(cases, (True, False)):
                took = [case(system, slot, stream) for _ in range(times)]
                shares = {"p50": 0.5, "p95": 0.95, "most": 1.0}
                said = (f"{n} {percentile(took, s) * 1000:.0f}" for n, s in shares.items())
                what = f"{case.__doc__}, {'streamed' if stream else 'not streamed'}"
                yield f"{name}, {what}: {', '.join(said)} ms"


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench leaving")
    parser.add_argument("--times", type=int, default=50)
    given = parser.parse_args()
    for name, value in report.about(["scripts/bench", "leaving", *sys.argv[1:]]).items():
        print(f"{name}: {value}")
    with exiting_on_sigterm():
        for row in rows(given.times):
            print(row, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
