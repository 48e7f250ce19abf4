"""``status``, ``doctor`` and ``config`` beside a Headrace that runs, and beside none."""

from __future__ import annotations

import json
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import pytest

from deploy import home
from tests.acceptance.headrace_up import HEADRACE, PATIENCE, HeadraceUp, environment, headrace, up

SLOTS = 2


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HeadraceUp]:
    engine = f"echo://?slots={SLOTS}&first_ms=600000"
    with up(tmp_path_factory.mktemp("cli") / "data", "--engine", engine) as made:
        yield made


@contextmanager
def asking(to: HeadraceUp, count: int) -> Iterator[None]:
    """So many requests that none is answered before the block ends."""
    key = (to.data / "key").read_text().strip()
    body = json.dumps({"messages": [{"role": "user", "content": "hello"}], "stream": True})
    command = ["curl", "-sN", f"{to.url}/chat/completions", "-d", body]
    command += ["-H", f"Authorization: Bearer {key}", "-H", "Content-Type: application/json"]
    clients = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(count)]
    try:
        yield
    finally:
        for client in clients:
            client.kill()
            client.wait()


def test_status_tells_who_is_here_and_what_waits(running: HeadraceUp) -> None:
    command = [*HEADRACE, "status", "--data", str(running.data), "--watch", "--json"]
    with (
        asking(running, SLOTS + 3),
        subprocess.Popen(command, stdout=subprocess.PIPE, env=environment()) as watch,
    ):
        assert watch.stdout
        seen = next(
            found
            for found in map(json.loads, watch.stdout)
            if [queue["waiting"] for queue in found["queues"] if queue["lane"] == "i"] == [3]
            and [row["waiting"] for row in found["waiting"]] == [3]
            and [card["engines"][0]["busy"] for card in found["cards"]] == [SLOTS]
        )
        watch.kill()
        table = headrace("status", "--data", running.data).stdout
    (queue,) = [each for each in seen["queues"] if each["lane"] == "i"]
    (row,) = seen["waiting"]
    assert (row["model"], row["lane"], row["account"]) == ("echo", "i", "local")
    assert (queue["model"], queue["depth"], queue["in_flight"]) == ("echo", SLOTS + 3, SLOTS)
    assert 0 < queue["oldest"] < PATIENCE
    assert [f"http://{each['address']}/v1" for each in seen["ingresses"]] == [running.url]
    rows = [line.split() for line in table.splitlines() if "interactive" in line]
    cells, waiting = rows  # by model, and by account
    assert waiting[:4] == ["echo", "interactive", "local", "3"]
    assert cells[:7] == ["echo", "interactive", "1", str(SLOTS), str(SLOTS), "3", str(SLOTS)]


def test_a_healthy_one_has_no_faults(running: HeadraceUp) -> None:
    done = headrace("doctor", "--data", running.data)
    levels = {line.split()[0] for line in done.stdout.splitlines()}
    assert (done.returncode, levels) == (0, {"ok"}), done.stdout
    for words in ("nats-server 2.", "2 MiB", "pings every 2 s", "when a connection ends"):
        assert words in done.stdout


def test_by_the_address_of_the_broker(running: HeadraceUp) -> None:
    login = home.login(running.data, "admin")
    assert login
    address = login["url"].removeprefix("nats://")
    url = f"nats://{login['user']}:{login['password']}@{address}"
    done = headrace("status", "--nats", url)
    assert done.returncode == 0, done.stderr
    assert "echo" in done.stdout
    assert login["password"] not in done.stdout
    refused = headrace("status", "--nats", f"nats://admin:wrong@{address}")
    assert refused.returncode == 1
    assert address in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("verb", ["status", "doctor"])
def test_beside_nothing(verb: str, tmp_path: Path) -> None:
    done = headrace(verb, "--data", tmp_path)
    assert done.returncode == 1
    assert f"nothing runs on {tmp_path}: start it with 'headrace up'" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_beside_a_broker_that_is_away() -> None:
    done = headrace("status", "--nats", "nats://127.0.0.1:9")
    assert done.returncode == 1
    assert "no broker answers at nats://127.0.0.1:9" in done.stdout + done.stderr


def test_its_version() -> None:
    done = headrace("--version")
    assert (done.returncode, done.stdout) == (0, f"headrace {metadata.version('headrace')}\n")


def test_config_check(tmp_path: Path) -> None:
    path = tmp_path / "headrace.toml"
    path.write_text("[ingress]\nport = 1\n")
    done = headrace("config", "check", "--config", path)
    assert (done.returncode, done.stdout) == (0, "ok\n")
    path.write_text("[ingress]\nprot = 1\n[jobs]\nqueue_depth = 0\n")
    done = headrace("config", "check", HEADRACE_CONFIG=str(path))
    assert done.returncode == 2
    assert "ingress.prot: unknown setting; did you mean 'port'?" in done.stderr
    assert "jobs.queue_depth: " in done.stderr


def test_config_show_masks_secrets(tmp_path: Path) -> None:
    path = tmp_path / "headrace.toml"
    path.write_text('[[keys]]\nname = "a"\nsecret = "hunter2hunter2hunter2"\n')
    done = headrace("config", "show", "--config", path, HEADRACE_INGRESS__PORT="1234")
    shown = tomllib.loads(done.stdout)
    assert (done.returncode, shown["ingress"]["port"]) == (0, 1234)
    [key] = shown["keys"]
    assert (key["name"], key["account"], key["secret"]) == ("a", "default", "********")
