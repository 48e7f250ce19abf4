"""``headrace up`` with the real small model, as a new user meets it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.headrace_up import (
    HEADRACE,
    LAST_LINE,
    PATIENCE,
    WITH_CONSOLE,
    Handles,
    HeadraceUp,
    descendant,
    descendants,
    environment,
    headrace,
    up,
)
from workers.engines.llamacpp.embedded import MODEL_ID

ECHO = ("--engine", "echo://?slots=2&token_ms=50")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HeadraceUp]:
    with up(tmp_path_factory.mktemp("up") / "data", **WITH_CONSOLE) as running:
        yield running


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HeadraceUp]:
    with up(tmp_path_factory.mktemp("echo") / "data", "--verbose", *ECHO) as running:
        yield running


def paste(line: str) -> str:
    """What a line of the terminal does."""
    return subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, timeout=PATIENCE, check=True
    ).stdout


def words(stream: str) -> str:
    """The text of an event stream that is whole."""
    events = [line.removeprefix("data: ") for line in stream.splitlines() if line.startswith("d")]
    assert events[-1] == "[DONE]"
    deltas = [json.loads(event)["choices"][0]["delta"] for event in events[:-1]]
    return "".join(delta.get("content") or "" for delta in deltas)


def curl(running: HeadraceUp, **fields: object) -> str:
    """The printed line, its request changed."""
    line = running.after("Stream a chat:")[0]
    head, quote, body = line.partition("-d '")
    return head + quote + json.dumps({**json.loads(body[:-1]), **fields}) + "'"


def test_says_all_that_is_needed(real: HeadraceUp) -> None:
    key = (real.data / "key").read_text().strip()
    assert f"key       {key}" in real.text
    assert f"model     {MODEL_ID}" in real.text
    assert real.url.startswith("http://127.0.0.1:")
    assert real.after("A second worker")[0].endswith(f"headrace worker --data {real.data}")


def test_the_key_is_in_no_log(real: HeadraceUp) -> None:
    key = (real.data / "key").read_text().strip()
    logs = [path for path in real.data.rglob("*.log*") if path.is_file()]
    assert {path.name for path in logs} >= {"ingress.log", "worker.log", "nats-server.log"}
    assert [path for path in logs if key in path.read_text()] == []
    assert [line for line in descendants(real.pid).values() if key in line] == []
    assert [path for path in real.data.rglob("*") if path.stat().st_mode & 0o077 & ~0o055] == []


def test_the_printed_curl_streams_words(real: HeadraceUp) -> None:
    assert "curl -N http://" in real.text
    assert len(words(paste(curl(real, max_tokens=24, temperature=0))).split()) > 5


def test_the_printed_python_prints_words(real: HeadraceUp) -> None:
    lines = real.after("Or in Python", 3)
    short = lines[2].replace("model=", "max_tokens=16, temperature=0, model=")
    done = subprocess.run(
        [sys.executable, "-c", "\n".join([*lines[:2], short])],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert len(done.stdout.split()) > 5


def test_a_killed_worker_is_started_again(real: HeadraceUp) -> None:
    worker = descendant(real.pid, "-m deploy worker")
    engine = Handles([*descendants(worker)])
    said = len(real.lines)
    os.kill(worker, signal.SIGKILL)
    assert len(engine) == 1
    assert engine.wait(PATIENCE)
    said = real.says("the worker ended (killed by SIGKILL); it is started again", said)
    said = real.says("the worker runs again", said)
    real.says("the engine embedded on ", said)
    assert words(paste(curl(real, max_tokens=4, temperature=0)))


def test_ctrl_c_stops_everything(real: HeadraceUp) -> None:
    """In the middle of an answer; the last test of the module's `up`."""
    line = curl(real, max_tokens=2000, ignore_eos=True)
    with subprocess.Popen(["bash", "-c", f"exec {line}"], stdout=subprocess.PIPE) as client:
        assert client.stdout
        assert client.stdout.readline().startswith(b"data: ")
        everyone = Handles([*descendants(real.pid)])
        assert len(everyone) == 5  # broker, ingress, worker with its engine, console
        assert real.stop(signal.SIGINT) == 0
        assert everyone.wait(0)
    assert real.lines[-1] == "stopped"


def test_the_next_one_finds_key_and_store_and_killed_leaves_nobody(real: HeadraceUp) -> None:
    """After the last one has been stopped."""
    key = (real.data / "key").read_text().strip()
    before = streams(real.data)
    with up(real.data, **WITH_CONSOLE) as second:
        assert f"key       {key}" in second.text
        assert streams(real.data) == before
        assert "engine.ready" in (real.data / "logs" / "worker.log.1").read_text()
        everyone = Handles([*descendants(second.pid)])
        assert len(everyone) == 5  # broker, ingress, worker with its engine, console
        assert second.stop(signal.SIGKILL) == -signal.SIGKILL
        assert everyone.wait(PATIENCE)


def streams(data: Path) -> dict[str, int]:
    """Every stream's directory in the broker's store, by its inode: a new one has another."""
    return {path.name: path.stat().st_ino for path in data.glob("broker/jetstream/*/streams/*")}


def test_verbose_shows_the_logs(echo: HeadraceUp) -> None:
    assert words(paste(curl(echo))) == "Why is the sky blue?"
    echo.says("ingress  OpenAI's API is at http://127.0.0.1:")
    echo.says("worker   engine echo is ready, 2 slots: echo")
    echo.says("ingress  200 /v1/chat/completions echo for local")


def test_a_second_one_at_the_same_time_is_refused(echo: HeadraceUp) -> None:
    refused = headrace("up", "--data", echo.data, *ECHO)
    assert refused.returncode == 1
    assert f"headrace runs already on {echo.data}" in refused.stderr
    assert "headrace status" in refused.stderr
    assert words(paste(curl(echo))) == "Why is the sky blue?"


@pytest.mark.parametrize("role", ["ingress", "nats-server"])
def test_what_dies_is_started_again(echo: HeadraceUp, role: str) -> None:
    name = {"ingress": "ingress", "nats-server": "broker"}[role]
    said = len(echo.lines)
    os.kill(descendant(echo.pid, role), signal.SIGKILL)
    said = echo.says(f"the {name} ended", said)
    echo.says(f"the {name} runs again", said)
    assert words(paste(f"for i in 1 2 3; do {curl(echo)} | grep data && break; sleep 1; done"))


def test_a_hangup_is_passed_on_and_ends_nothing(echo: HeadraceUp) -> None:
    before = descendants(echo.pid)
    os.kill(echo.pid, signal.SIGHUP)
    echo.says("the settings are read again")
    echo.says("ingress  the settings were read again")
    echo.says("worker   the settings were read again")
    assert descendants(echo.pid) == before


def test_a_terminal_that_is_closed_ends_it(tmp_path: Path) -> None:
    ours, its = os.openpty()
    command = [*HEADRACE, "up", "--data", str(tmp_path / "data"), "--port", "0", *ECHO]
    running = subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=environment())
    os.close(its)
    said = b""
    while LAST_LINE.encode() not in said:
        said += os.read(ours, 4096)
    os.close(ours)
    running.send_signal(signal.SIGHUP)
    assert running.wait(PATIENCE) == 0


def test_taken_ports_are_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        refused = headrace("up", "--data", tmp_path / "data", "--port", str(port), *ECHO)
    assert refused.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in refused.stderr
    assert "--port" in refused.stderr


def test_an_engine_that_is_away_stops_nothing(tmp_path: Path) -> None:
    away = ("--engine", "llamacpp=http://127.0.0.1:9", "--node", "here")
    with up(tmp_path / "data", *away) as running:
        said = "the engine llamacpp on here is not ready: llamacpp cannot be reached"
        assert said in running.text
        assert "none yet: no engine is ready" in running.text
        assert running.after("A second worker")[0].endswith("--engine NAME=URL")
        assert running.stop(signal.SIGTERM) == 0
