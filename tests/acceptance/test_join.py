"""A second machine in one line, as people type it: here each machine is a directory."""

from __future__ import annotations

import json
import signal
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from deploy.nodes import token as tokens
from tests import ports
from tests.acceptance.headrace_up import (
    HEADRACE,
    PATIENCE,
    HeadraceUp,
    Running,
    environment,
    headrace,
    up,
)

HERE, THERE = "echo://?model=here", "echo://?model=there"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HeadraceUp]:
    place = tmp_path_factory.mktemp("hub")
    config = place / "headrace.toml"
    web = ports.free()
    config.write_text(f"[share]\nport = {ports.free()}\nwebsocket_port = {web}\n")
    shared = ("--share-as", "127.0.0.1", "--config", str(config))
    with up(place / "data", *shared, "--engine", HERE, "--node", "here") as made:
        yield made


@contextmanager
def running(command: str, data: Path, *arguments: str, **variables: str) -> Iterator[Running]:
    """A command that runs until it is told to stop; nothing of it is left after the block."""
    words = [*HEADRACE, command, "--data", str(data), *arguments]
    made = Running(words, {**environment(), **variables})
    try:
        yield made
    finally:
        made.reap()


def invited(data: Path, name: str, *more: str) -> str:
    """The token of the line that is printed."""
    done = headrace("node", "invite", name, "--data", data, *more)
    assert done.returncode == 0, done.stderr
    line = done.stdout.split()
    assert line[:1] + line[2:3] == ["headrace", "--join"]
    return line[3]


def served(url: str, key: str, model: str, there: bool = True) -> None:
    """Wait until the ingress lists a model, or does not."""
    deadline = time.monotonic() + PATIENCE
    while (model in listed(url, key)) is not there:
        assert time.monotonic() < deadline, listed(url, key)
        time.sleep(0.05)


def listed(url: str, key: str) -> list[str]:
    asked = urllib.request.Request(f"{url}/models", headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(asked, timeout=PATIENCE) as answer:
        found: Any = json.load(answer)
    return [each["id"] for each in found["data"]]


def key_of(hub: HeadraceUp) -> str:
    return (hub.data / "key").read_text().strip()


def chat(url: str, key: str, model: str) -> str:
    client = OpenAI(base_url=url, api_key=key, max_retries=0, timeout=PATIENCE)
    stream = client.chat.completions.create(
        model=model, stream=True, messages=[{"role": "user", "content": "one two three"}]
    )
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream)


def test_a_worker_joins_serves_and_comes_back_without_a_token(
    hub: HeadraceUp, tmp_path: Path
) -> None:
    token, key = invited(hub.data, "there", "--models", "there*"), key_of(hub)
    with running("worker", tmp_path, "--join", token, "--engine", THERE) as worker:
        worker.says("joined as the node 'there'")
        shown = Path(f"/proc/{worker.pid}/cmdline").read_bytes()
        assert token.encode() not in shown
        served(hub.url, key, "there")
        assert chat(hub.url, key, "there").strip() == chat(hub.url, key, "here").strip() != ""
        assert worker.stop(signal.SIGTERM) == 0
        assert token not in worker.text
    rows = headrace("node", "list", "--json", "--data", hub.data).stdout
    assert {row["name"]: row["how"] for row in json.loads(rows)} == {
        "here": "own",
        "there": "joined",
    }
    with running("worker", tmp_path, "--engine", THERE):
        served(hub.url, key, "there")
        assert chat(hub.url, key, "there").strip()
    again = headrace("worker", "--join", token, "--data", tmp_path / "other")
    assert again.returncode == 1
    assert again.stderr.startswith("headrace: this token was used already")
    assert again.stderr.count("\n") == 1
    other = headrace("worker", "--join", "-", "--data", tmp_path / "other", given=token[:-1] + "\n")
    assert other.stderr.startswith("headrace: --join: the token is cut or altered")


def test_an_ingress_joins_and_knows_the_keys(hub: HeadraceUp, tmp_path: Path) -> None:
    token = invited(hub.data, "edge", "--role", "ingress")
    made = headrace("key", "create", "alice", "--data", hub.data)
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    file = tmp_path / "token"
    file.write_text(token)
    data = tmp_path / "data"
    with running("ingress", data, "--join", f"@{file}", "--port", "0") as ingress:
        ingress.says("joined, at tls://127.0.0.1:")
        at = ingress.says("ingress.listening")
        url = json.loads(ingress.lines[at - 1])["url"] + "/v1"
        served(url, key, "here")
        assert chat(url, key, "here").strip()
        rotated = headrace("node", "rotate", "edge", "--data", hub.data)
        assert rotated.returncode == 0, rotated.stderr
        ingress.says("own_keys.rotated")
        assert chat(url, key, "here").strip()
        assert ingress.stop(signal.SIGTERM) == 0


def test_a_worker_joins_through_the_web(hub: HeadraceUp, tmp_path: Path) -> None:
    found = tokens.unpack(invited(hub.data, "web"))
    port = json.loads((hub.data / "broker" / "nats-server.conf").read_text())["websocket"]["port"]
    token = replace(found, addresses=(f"wss://127.0.0.1:{port}",)).pack()
    with running(
        "worker", tmp_path, "--engine", "echo://?model=web", HEADRACE_JOIN=token
    ) as worker:
        worker.says(f"joined as the node 'web', at wss://127.0.0.1:{port}")
        served(hub.url, key_of(hub), "web")
        assert chat(hub.url, key_of(hub), "web").strip()
    served(hub.url, key_of(hub), "web", there=False)


def test_doctor_looks_at_the_certificate(hub: HeadraceUp) -> None:
    done = headrace("doctor", "--data", hub.data)
    assert "the certificate of tls://127.0.0.1:" in done.stdout
    assert "is good until" in done.stdout


def test_a_broker_alone_and_everything_joins_it(tmp_path: Path) -> None:
    config = tmp_path / "headrace.toml"
    config.write_text(f"[share]\nport = {ports.free()}\n")
    shared = ("--share-as", "127.0.0.1", "--config", str(config))
    hub_data = tmp_path / "hub"
    with running("broker", hub_data, *shared) as broker:
        broker.says("Ctrl-C stops it.")
        edge = tmp_path / "token"
        edge.write_text(invited(hub_data, "edge", "--role", "ingress"))
        gpu = invited(hub_data, "gpu")
        key = headrace("key", "create", "bob", "--data", hub_data)
        with (
            running("ingress", tmp_path / "edge", "--join", f"@{edge}", "--port", "0") as ingress,
            running("worker", tmp_path / "gpu", "--join", gpu, "--engine", HERE),
        ):
            at = ingress.says("ingress.listening")
            url = json.loads(ingress.lines[at - 1])["url"] + "/v1"
            if key.returncode:  # the first ingress makes the store of keys
                key = headrace("key", "create", "bob", "--data", hub_data)
            secret = key.stdout.strip()
            served(url, secret, "here")
            assert chat(url, secret, "here").strip()
        assert broker.stop(signal.SIGTERM) == 0
