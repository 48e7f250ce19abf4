"""`headrace node` and `headrace model` as people type them, with a broker that others may reach."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from openai import APIStatusError, AsyncOpenAI

from deploy import models
from deploy.configure import CommandFailed, Where
from deploy.nodes import commands, joining, token
from schemas import bus as buses
from schemas import subjects, topology
from schemas.jetstream import streams
from tests import ports
from tests.acceptance.headrace_up import (
    HEADRACE,
    PATIENCE,
    HeadraceUp,
    environment,
    headrace,
    up,
)

NODE = "hub-box"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HeadraceUp]:
    home = tmp_path_factory.mktemp("nodes")
    config = home / "headrace.toml"
    config.write_text(f'[share]\nhost = "127.0.0.1"\nport = {ports.free()}\n')
    engine = "echo://?model=echo"
    with up(home / "data", "--engine", engine, "--node", NODE, "--config", str(config)) as made:
        yield made


def said(running: HeadraceUp, *arguments: str) -> Any:
    """What a command prints as JSON."""
    done = headrace(*arguments, "--json", "--data", running.data)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def refused(command: Coroutine[Any, Any, None]) -> str:
    """Why a command fails."""
    with pytest.raises(CommandFailed) as why:
        await command
    assert "\n" not in str(why.value)
    return str(why.value)


def test_an_invitation_is_one_line_and_is_listed(running: HeadraceUp) -> None:
    done = headrace("node", "invite", "gpu", "--models", "a*,b", "--data", running.data)
    assert done.returncode == 0, done.stderr
    *command, text = done.stdout.split()
    assert command == ["headrace", "worker", "--join"]
    found = token.unpack(text)
    assert (found.name, found.role) == ("gpu", "worker")
    assert found.addresses[0].startswith("tls://127.0.0.1:")
    assert text not in done.stderr
    rows = {row["name"]: row for row in said(running, "node", "list")}
    assert rows["gpu"]["state"] == "invited"
    assert rows["gpu"]["may"] == ["a*", "b"]
    assert rows[NODE]["state"] == "active"
    assert rows[NODE]["models"] == ["echo"]


async def test_an_invitation_is_withdrawn(running: HeadraceUp, tmp_path: Path) -> None:
    where = Where(running.data)
    done = headrace("node", "invite", "lost", "--data", running.data)
    await commands.forget(where, "lost")
    assert "lost" not in [row["name"] for row in said(running, "node", "list")]
    with pytest.raises(CommandFailed, match="this token has expired"):
        await joining.join(done.stdout.split()[-1], "worker", tmp_path / "far")
    assert "no node 'lost'" in await refused(commands.forget(where, "lost"))


async def test_the_hubs_own_node_is_drained_and_undrained(running: HeadraceUp) -> None:
    where = Where(running.data)
    await commands.drain(where, NODE, True)
    await until(where, NODE, state="drained", models=())
    assert NODE in headrace("status", "--data", running.data).stdout.partition("Without jobs")[2]
    await commands.drain(where, NODE, False)
    await until(where, NODE, state="active", models=("echo",))


async def pinned(running: HeadraceUp, status: int, node: str, model: str = "echo") -> None:
    """Ask for this node alone, until the answer has that status: an ingress hears a moment later
    what was said of a node."""
    key = (running.data / "key").read_text().strip()
    words: Any = [{"role": "user", "content": "x"}]
    async with (
        asyncio.timeout(PATIENCE),
        AsyncOpenAI(base_url=running.url, api_key=key, max_retries=0, timeout=PATIENCE) as client,
    ):
        made = client.with_options(default_headers={"X-Headrace-Node": node})
        while True:
            try:
                await made.chat.completions.create(model=model, messages=words)
                found = 200
            except APIStatusError as error:
                found = error.status_code
            if found == status:
                return


async def test_a_request_for_a_drained_node_is_told_so(running: HeadraceUp) -> None:
    where = Where(running.data)
    await pinned(running, 200, NODE)
    await pinned(running, 404, "nobody")
    await commands.drain(where, NODE, True)
    await pinned(running, 503, NODE)
    await commands.drain(where, NODE, False)
    await pinned(running, 200, NODE)


async def test_bad_input_is_told_in_one_line(running: HeadraceUp) -> None:
    where = Where(running.data)

    def invite(name: str, role: str = "worker", expires: str = "1h") -> Coroutine[Any, Any, None]:
        return commands.invite(where, name, [], role, expires, False)

    assert f"did you mean '{NODE}'" in await refused(commands.drain(where, "hub-bx", True))
    assert "did not join" in await refused(commands.evict(where, NODE))
    assert "did not join" in await refused(commands.rotate(where, NODE))
    assert "did not join" in await refused(commands.rename(where, NODE, "other"))
    assert "is there already" in await refused(invite(NODE))
    assert "1 to 64 letters" in await refused(invite("x" * 65))
    assert "no role" in await refused(invite("x", role="boss"))
    assert "no span" in await refused(invite("x", expires="soon"))
    assert "did you mean 'echo'" in await refused(models.forget(where, "eco"))
    assert f"{NODE} serves it" in await refused(models.forget(where, "echo"))
    # Not a token for all models, as no --models is.
    for globs in (",", "a,", " "):
        told = headrace("node", "invite", "x", "--models", globs, "--data", running.data)
        assert (told.returncode, told.stdout) == (1, "")
        assert "models: a name of a model" in told.stderr
    told = headrace("node", "drain", "hub-bx", "--data", running.data)
    assert (told.returncode, told.stderr.count("\n")) == (1, 1)


@pytest.mark.parametrize("words", [("doctor",), ("status", "--json"), ("node", "list")])
def test_who_stops_reading_ends_a_command_quietly(
    running: HeadraceUp, words: tuple[str, ...]
) -> None:
    """As ``headrace doctor | head`` does."""
    read, write = os.pipe()
    os.close(read)
    command = [*HEADRACE, *words, "--data", str(running.data)]
    done = subprocess.run(
        command, stdout=write, stderr=subprocess.PIPE, env=environment(), timeout=30, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


async def _make_ghost(data: Path) -> None:
    """The queue of a model that somebody served long ago."""
    bus = await buses.connect(Where(data).local("admin"), "test", "_A.test")
    ghost = topology.consumer("ghost", "i", 3, 1)
    await streams.ensure_consumer(bus, subjects.JOBS_STREAM, ghost)
    await bus.close()


async def test_models_that_nobody_serves_are_forgotten(
    running: HeadraceUp, capsys: pytest.CaptureFixture[str]
) -> None:
    async def listed() -> dict[str, list[str]]:
        capsys.readouterr()
        await models.show_all(where, True)
        said = capsys.readouterr().out.splitlines()[-1]
        return {row["model"]: row["nodes"] for row in json.loads(said)}

    where = Where(running.data)
    await _make_ghost(running.data)
    assert await listed() == {"echo": [NODE], "ghost": []}
    assert "nobody" in headrace("model", "list", "--data", running.data).stdout
    await models.forget(where, "ghost")
    assert await listed() == {"echo": [NODE]}


@contextmanager
def joined(running: HeadraceUp, data: Path, name: str) -> Iterator[subprocess.Popen[str]]:
    """A machine that joins by a token, and serves the model "far"."""
    done = headrace("node", "invite", name, "--data", running.data)
    assert done.returncode == 0, done.stderr
    command = [*HEADRACE, "worker", "--join", "-", "--data", str(data)]
    command += ["--engine", "echo://?model=far", "--log", "json"]
    with (data.parent / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stderr=log, text=True, env=environment()
        )
        try:
            assert process.stdin
            process.stdin.write(done.stdout.split()[-1] + "\n")
            process.stdin.close()
            yield process
        finally:
            process.kill()
            process.wait()


async def until(where: Where, name: str, **fields: object) -> None:
    """Wait until `node list` says so of a node."""
    async with asyncio.timeout(PATIENCE), commands.opened(where) as desk:
        while True:
            await desk.read()
            rows = {row.name: row for row in await desk.here()}
            if name in rows and all(getattr(rows[name], k) == v for k, v in fields.items()):
                return


async def chat(running: HeadraceUp, text: str) -> str:
    key = (running.data / "key").read_text().strip()
    async with AsyncOpenAI(
        base_url=running.url, api_key=key, max_retries=0, timeout=PATIENCE
    ) as client:
        answer = await client.chat.completions.create(
            model="far", messages=[{"role": "user", "content": text}]
        )
    return str(answer.choices[0].message.content)


async def test_the_life_of_a_node_that_joined(running: HeadraceUp, tmp_path: Path) -> None:
    where = Where(running.data)
    with joined(running, tmp_path / "far", "first"):
        await until(where, "first", state="active", models=("far",))
        assert await chat(running, "one") == "one"
        await commands.rotate(where, "first")
        assert await chat(running, "two") == "two"
        await commands.rename(where, "first", "second")
        await until(where, "second", state="active", models=("far",))
        assert await chat(running, "three") == "three"
        await pinned(running, 200, "second", "far")
        await pinned(running, 404, "first", "far")
        assert "first" not in [row["name"] for row in said(running, "node", "list")]
        assert "is here" in await refused(commands.forget(where, "second"))
        await commands.evict(where, "second")
        await until(where, "second", state="evicted", models=())
        await pinned(running, 404, "second", "far")
        again = commands.invite(where, "second", [], "worker", "1h", False)
        assert "was evicted" in await refused(again)
    logged = (tmp_path / "first.log").read_text()
    assert "orders.rotated" in logged
    assert "evicted" in logged
    await commands.forget(where, "second")
    await models.forget(where, "far")


def test_without_a_shared_broker_it_says_how_to_have_one(tmp_path: Path) -> None:
    done = headrace("node", "invite", "gpu", "--data", tmp_path)
    assert done.returncode == 1
    assert "headrace up --share" in done.stderr
