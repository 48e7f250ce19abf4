"""A second machine, from the first command to the last, on two that share nothing but a link."""

from __future__ import annotations

import json
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import ports
from tests.acceptance.headrace_up import LAST_LINE, PATIENCE, Running
from tests.fabric import table
from tests.machines import Link, Machine, two_machines

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
URL = "echo://?model=echo&slots=2&token_ms=50"
ECHO = ("--engine", URL)
NODE = "gpu-box"
WORDS = " ".join(f"w{number}" for number in range(60))


class House:
    """The hub runs, and the other machine joins by what the hub prints. What both serve goes to the
    other one first."""

    def __init__(self, hub: Machine, other: Machine, link: Link) -> None:
        self.hub, self.other, self.link = hub, other, link
        # Of a higher number: it gets what others leave.
        last = {"name": "echo", "kind": "echo", "url": URL, "priority": 1}
        self.port = 4222 if link.real else ports.free()
        share = table("share", {"host": hub.address, "port": self.port})
        (hub.home / "hub.toml").write_text(share + table("[engines]", last))
        config = ("--config", str(hub.home / "hub.toml"), "--port", str(hub.port))
        self.up = hub.start("up", "--node", "hub", *config)
        self.up.says(LAST_LINE)
        hub.key = (hub.data / "key").read_text().strip()
        self.invitation = self.done("invite", NODE).strip()
        self.worker = self.joins()

    def joins(self) -> Running:
        """The line is pasted at the other machine."""
        return self.other.start(*self.invitation.split()[1:], *ECHO)

    def done(self, *command: str) -> str:
        """What a command about nodes prints at the hub."""
        ran = self.hub.headrace("node", *command)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def served(self, **headers: str) -> str:
        """Who serves a request: a node, or the error."""
        answer = self.hub.chat("one two", **headers)
        if answer.status != 200:
            return f"{answer.status} {answer.body['error']['code']}"
        assert answer.body["choices"][0]["message"]["content"] == "one two"
        return answer.headers["x-headrace-served-by"]

    def pinned(self, node: str = NODE) -> str:
        return self.served(x_headrace_node=node)

    @contextmanager
    def streamed(self) -> Iterator[None]:
        """A stream that the other machine has begun when the block is entered, and that is whole in
        the end, whatever happens there."""
        with self.hub.streamed(WORDS) as lines:
            events = (line[6:] for line in lines if line.startswith("data: "))
            text = words(next(events)) + words(next(events))
            yield
            rest = list(events)
        assert rest[-1].strip() == "[DONE]", rest[-1]
        assert text + "".join(map(words, rest[:-1])) == WORDS


def words(event: str) -> str:
    found: str = json.loads(event)["choices"][0]["delta"].get("content") or ""
    return found


def until(what: Callable[[], str], wanted: str) -> None:
    """Ask until it is so; each time it is another request."""
    deadline = time.monotonic() + PATIENCE
    while (found := what()) != wanted:
        assert time.monotonic() < deadline, f"{found}, not {wanted}"


def test_from_the_first_command_to_the_last(tmp_path: Path) -> None:
    with two_machines(tmp_path) as (hub, other, link):
        house = House(hub, other, link)
        until(house.pinned, f"node:{NODE}")
        assert house.served() == f"node:{NODE}"
        assert house.pinned("hub") == "node:hub"
        assert house.pinned("nobody") == "404 node_not_found"
        if link.real:  # else the machine that runs the tests may have listeners of its own
            assert hub.listened() == {f"{hub.address}:{house.port}"}
            assert other.listened() == set()
            cut_and_heal(house)
        drain(house)
        evict(house)
        come_back(house)
        assert house.up.stop() == 0


def cut_and_heal(house: House) -> None:
    with house.streamed():
        house.link.cut()
    assert house.pinned() == "503 no_worker"
    assert house.served() == "node:hub"
    house.link.heal()
    house.worker.says("bus.reconnected")
    until(house.pinned, f"node:{NODE}")


def drain(house: House) -> None:
    with house.streamed():  # it finishes what it has
        house.done("drain", NODE)
        assert house.served() == "node:hub"
        assert house.pinned() == "503 no_worker"
    house.done("undrain", NODE)
    until(house.pinned, f"node:{NODE}")


def evict(house: House) -> None:
    with house.streamed():
        house.done("evict", NODE)
    assert house.served() == "node:hub"
    listed = json.loads(house.done("list", "--json"))
    assert [node["state"] for node in listed if node["name"] == NODE] == ["evicted"]


def come_back(house: House) -> None:
    """With what it had, with the token again, and by another's name."""
    house.worker.stop(signal.SIGKILL)
    again = house.other.headrace("worker", *ECHO)
    assert (again.returncode, again.stdout) == (1, "")
    assert re.search("the broker refuses the key in .*seed: .*evicted", again.stderr)
    elsewhere = ("--data", str(house.other.home / "elsewhere"))
    used = house.other.headrace(*house.invitation.split()[1:], *ECHO, *elsewhere)
    assert used.returncode == 1
    assert "this token was used already" in used.stderr


def test_nothing_can_be_reached_from_elsewhere_unless_it_is_shared(tmp_path: Path) -> None:
    with two_machines(tmp_path) as (hub, other, link):
        hub.start("up", "--port", str(hub.port), *ECHO).says(LAST_LINE)
        hub.key = (hub.data / "key").read_text().strip()
        assert hub.chat("Who is here?").status == 200
        if link.real:  # else the machine that runs the tests may have listeners of its own
            assert (hub.listened(), other.listened()) == (set(), set())
