"""The embedded engine as a process: what it serves, and how it ends."""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.acceptance.conftest import RealLlama, embedded
from tests.fabric import Fabric, ask
from workers.engines.llamacpp.embedded import MODEL_ID
from workers.engines.llamacpp.server import default_model

SOON = 15.0
"""Seconds. The answers that are broken off would take twice as long on an idle machine."""
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
PIPE = subprocess.PIPE
STARTER = """
import subprocess, sys
stdin = subprocess.PIPE if "--parent-stdin" in sys.argv else None
child = subprocess.Popen(sys.argv[1:], stdin=stdin, stdout=subprocess.PIPE, text=True)
print(child.stdout.readline().strip(), child.pid, flush=True)
child.wait()
"""


@contextmanager
def launched(*options: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """(process, its address host:port)"""
    with subprocess.Popen(embedded(*options), stdin=PIPE, stdout=PIPE, stderr=PIPE) as process:
        try:
            assert process.stdout is not None
            url = json.loads(process.stdout.readline())["url"]
            yield process, urlsplit(url).netloc
        finally:
            process.kill()


@contextmanager
def generating(address: str) -> Iterator[http.client.HTTPResponse]:
    """A long answer, after its first bytes."""
    connection = http.client.HTTPConnection(address, timeout=60)
    body = {"prompt": "Once", "stream": True, "max_tokens": 2000, "ignore_eos": True}
    try:
        connection.request("POST", "/v1/completions", json.dumps(body))
        answer = connection.getresponse()
        assert answer.readline().startswith(b"data: ")
        yield answer
    finally:
        connection.close()


def test_serves_what_the_worker_asks_for(llama: RealLlama) -> None:
    props, models = (json.loads(llama.get(path)[1]) for path in ("/props", "/v1/models"))

    assert props["total_slots"] == llama.slots == 4
    assert [model["id"] for model in models["data"]] == [llama.model]
    assert len(json.loads(llama.get("/slots")[1])) == 4
    assert b"llamacpp:requests_deferred" in llama.get("/metrics")[1]
    assert json.loads(llama.get("/health")[1]) == {"status": "ok"}


@on_linux
async def test_a_worker_starts_it_with_a_key_that_nobody_else_has(fabric: Fabric) -> None:
    ingress = await fabric.ingress()
    assert ingress
    worker = await fabric.crew('[[engines]]\nname = "own"\nkind = "embedded"\n')
    keys = set[str]()
    for number in range(2):
        started = await worker.logged("process.started", skip=number)
        await worker.logged("engine.ready", skip=number)
        place = Path(f"/proc/{started['pid']}")
        variables = dict(
            each.split("=", 1) for each in (place / "environ").read_text().split("\0") if each
        )
        keys.add(variables["LLAMA_API_KEY"])
        arguments = (place / "cmdline").read_text().split("\0")
        address = f"127.0.0.1:{arguments[arguments.index('--port') + 1]}"
        with closing(http.client.HTTPConnection(address, timeout=60)) as stranger:
            stranger.request("POST", "/v1/completions", '{"prompt": "Once", "max_tokens": 1}')
            assert stranger.getresponse().status == 401
        status, _, _ = await fabric.post(ask("Hi", model=MODEL_ID, max_tokens=1))
        assert status == 200
        assert not {key for key in keys if key in str(worker.lines)}
        if number == 0:
            os.kill(started["pid"], signal.SIGKILL)
    assert len(keys) == 2


def test_names_the_model_by_its_alias_and_never_by_its_path(llama: RealLlama) -> None:
    body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    status, answer = llama.post("/v1/chat/completions", body)

    assert status == 200
    assert json.loads(answer)["model"] == llama.model
    assert str(default_model()).encode() not in answer


def test_no_web_page_may_use_it(llama: RealLlama) -> None:
    connection = http.client.HTTPConnection(urlsplit(llama.url).netloc, timeout=10)
    connection.request("GET", "/v1/models", headers={"Origin": "http://elsewhere.example"})
    allowed = connection.getresponse().headers.get("Access-Control-Allow-Origin")
    connection.close()

    assert not allowed


@on_linux
def test_listens_on_loopback_alone(llama: RealLlama) -> None:
    port = f":{urlsplit(llama.url).port:04X}"
    tables = [Path(f"/proc/{llama.pid}/net/{name}") for name in ("tcp", "tcp6")]
    text = "".join(table.read_text() for table in tables if table.exists())
    rows = [row.split() for row in text.splitlines()]
    listening = [row[1] for row in rows if row[1].endswith(port) and row[3] == "0A"]

    assert listening == ["0100007F" + port]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_the_middle_of_a_request(number: signal.Signals) -> None:
    with launched() as (process, address), generating(address):
        process.send_signal(number)

        assert process.wait(SOON) == -number


def test_the_end_of_stdin_ends_it_in_the_middle_of_a_request() -> None:
    with launched("--parent-stdin") as (process, address), generating(address):
        assert process.stdin is not None
        process.stdin.close()

        assert process.wait(SOON) == 0


@on_linux
@pytest.mark.parametrize("options", [[], ["--parent-stdin"]])
def test_it_dies_with_its_parent(options: list[str]) -> None:
    command = [sys.executable, "-c", STARTER, *embedded(*options)]
    with subprocess.Popen(command, stdout=PIPE, text=True) as parent:
        assert parent.stdout is not None
        url, pid = parent.stdout.readline().rsplit(" ", 1)
        orphan = os.pidfd_open(int(pid))
        try:
            with generating(urlsplit(json.loads(url)["url"]).netloc):
                parent.kill()
                ended, _, _ = select.select([orphan], [], [], 2)
        finally:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(orphan, signal.SIGKILL)
            os.close(orphan)

    assert ended


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "No such file"),
        (b"", "not a GGUF file"),
        (b"no model", "not a GGUF file"),
        (b"GGUF" + bytes(1000), "llama.cpp cannot serve"),
    ],
)
def test_a_model_that_cannot_be_served_is_told_in_one_line(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    model = tmp_path / "model.gguf"
    if content is not None:
        model.write_bytes(content)
    # argparse takes the last one.
    ended = subprocess.run(
        embedded("--model", str(model)), capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert ended.stdout == ""
    (told,) = [line for line in ended.stderr.splitlines() if line.startswith("embedded engine: ")]
    assert str(model) in told
    assert reason in told


def test_may_be_run_as_a_module(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "workers.engines.llamacpp.server", "--alias", "x", "--model"]
    ended = subprocess.run(
        [*command, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert ended.stderr == f"\nembedded engine: {tmp_path}: Is a directory\n"


def test_half_a_model_cannot_be_served(tmp_path: Path) -> None:
    half = tmp_path / "half.gguf"
    whole = default_model().read_bytes()
    half.write_bytes(whole[: len(whole) // 2])
    ended = subprocess.run(
        embedded("--model", str(half)), capture_output=True, timeout=60, check=False
    )
    assert ended.returncode == 1
    assert b"\nembedded engine: llama.cpp cannot serve" in ended.stderr
    assert b"model is corrupted or incomplete" in ended.stderr


def test_a_port_in_use_is_told(llama: RealLlama) -> None:
    ended = subprocess.run(
        embedded("--port", str(urlsplit(llama.url).port)),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert b"bind" in ended.stderr


@pytest.mark.parametrize(
    "options", [["--slots", "0"], ["--context", "many"], ["--port", "65536"], ["--threads", "-1"]]
)
def test_an_impossible_option_is_refused(options: list[str]) -> None:
    ended = subprocess.run(embedded(*options), capture_output=True, timeout=60, check=False)

    assert ended.returncode == 2
    assert options[0].encode() in ended.stderr


def test_logs_nothing_of_a_prompt() -> None:
    said = [{"role": "user", "content": "plover"}]
    bodies: list[dict[str, Any]] = [
        {"messages": said, "max_tokens": 2},
        {"messages": [*said, *[{"role": "assistant", "content": "plover"}] * 2]},
        {"messages": "plover"},
        {"messages": said, "tools": [{"type": "plover"}]},
        {"messages": [{"role": "user", "content": "plover " * 9000}]},
    ]
    with launched() as (process, address):
        server = RealLlama(f"http://{address}", process.pid)
        answers = [server.post("/v1/chat/completions", body)[0] for body in bodies]
        process.terminate()
        _, logged = process.communicate(timeout=SOON)

    assert answers == [200, 400, 400, 500, 400]
    assert b"plover" not in logged
