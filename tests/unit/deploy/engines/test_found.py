"""Engines that run are found, and asked what they are."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from deploy.engines import found, processes
from deploy.engines.found import Found, Place
from deploy.engines.processes import Process
from schemas.settings import Engine
from tests.doubles.llamacpp.server import LlamaCpp
from tests.doubles.llamacpp.slots import Settings
from tests.doubles.ollama.server import Ollama
from tests.doubles.vllm.server import Vllm
from workers.process import ports

WORKER = ("/bin/python3", "-m", "deploy", "worker")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, int]]:
    """Listeners, by the inode; the process 10 holds those that begin with "10-", and so on."""
    listeners: dict[str, tuple[str, int]] = {}

    def addresses(pid: int, given: dict[str, tuple[str, int]]) -> list[tuple[str, int]]:
        return [each for inode, each in given.items() if inode.startswith(f"{pid}-")]

    monkeypatch.setattr(ports, "listeners", lambda: listeners)
    monkeypatch.setattr(processes, "addresses", addresses)
    return listeners


def known(*rows: tuple[int, int, tuple[str, ...]]) -> dict[int, Process]:
    return {pid: Process(pid, parent, words) for pid, parent, words in rows}


def test_usual_ports_and_programs(machine: dict[str, tuple[str, int]]) -> None:
    machine.update({"x-1": ("0.0.0.0", 8000), "10-1": ("::", 40_001), "x-2": ("127.0.0.1", 40_002)})
    here = known((10, 1, ("llama-server",)), (11, 1, ("sshd",)))
    assert found.places(here) == [
        Place("127.0.0.1", 8000),
        Place("127.0.0.1", 40_001, "llama-server", 10),
    ]


def test_own_processes_and_what_they_start_are_left_out(
    machine: dict[str, tuple[str, int]],
) -> None:
    machine.update({"10-1": ("127.0.0.1", 8080), "11-1": ("127.0.0.1", 8081)})
    here = known((10, 1, WORKER), (11, 10, ("llama-server",)))
    assert found.places(here) == []


def test_what_an_engine_starts_for_itself_is_left_out(machine: dict[str, tuple[str, int]]) -> None:
    machine.update({"10-1": ("127.0.0.1", 11_434), "11-1": ("127.0.0.1", 40_001)})
    here = known((10, 1, ("ollama", "serve")), (11, 10, ("/x/ollama", "runner")))
    assert found.places(here) == [Place("127.0.0.1", 11_434, "ollama", 10)]


def test_without_proc_the_usual_ports_are_asked(machine: dict[str, tuple[str, int]]) -> None:
    assert [place.port for place in found.places({})] == list(found.USUAL)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:1"),
        ("::1", "http://[::1]:1"),
        ("10.0.0.5", "http://10.0.0.5:1"),
    ],
)
def test_urls(host: str, url: str) -> None:
    assert Place(host, 1).url == url


async def test_llama_server() -> None:
    async with LlamaCpp(Settings(4, model="parrot")) as engine:
        assert await found.ask(engine.url) == Found(engine.url, "llamacpp", ("parrot",), 4)


async def test_ollama() -> None:
    async with Ollama() as engine:
        answers = await found.ask(engine.url, program="ollama", pid=7)
    assert answers is not None
    assert (answers.kind, answers.models, answers.pid) == ("ollama", ("tiny:latest",), 7)


async def test_vllm() -> None:
    async with Vllm() as engine:
        answers = await found.ask(engine.url)
    assert answers is not None
    assert (answers.kind, answers.fault) == ("vllm", "")
    assert answers.models


@pytest.fixture
async def served(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    """A server with one page for all that it is asked: `request.param` is its status and text."""
    status, text = request.param

    async def page(_: web.Request) -> web.Response:
        return web.Response(status=status, text=text, content_type="application/json")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", page)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


@pytest.mark.parametrize(
    "served", [(404, "{}"), (200, "hello"), (200, "{}"), (401, "{}"), (500, "")], indirect=True
)
async def test_what_is_no_engine(served: str) -> None:
    assert await found.ask(served) is None


@pytest.mark.parametrize("served", [(401, "{}")], indirect=True)
async def test_an_engine_that_wants_its_key(served: str) -> None:
    answers = await found.ask(served, program="vllm")
    assert answers == Found(served, "vllm", program="vllm", wants_key=True)


async def test_nobody_and_an_engine_that_hangs() -> None:
    assert await found.ask("http://127.0.0.1:9") is None
    answers = await found.ask("http://127.0.0.1:9", program="ollama")
    assert answers is not None
    assert "cannot be reached" in answers.fault


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://127.0.0.1:8080", "http://localhost:8080/", True),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8081", False),
        ("http://h", "http://h:80", True),
        ("https://h", "http://h:443", False),
        ("http://h/a", "http://h/b", False),
        ("", "http://127.0.0.1:80", False),
    ],
)
def test_the_same_engine(one: str, other: str, same: bool) -> None:
    assert found.same(one, other) is same


def test_a_programs_other_ports_are_left_out() -> None:
    page, inner = Found("http://h:1", "vllm", pid=7), Found("http://h:2", "vllm", pid=7, fault="?")
    away = Found("http://h:3", "vllm", pid=8, fault="?")
    assert found.told([page, inner, away]) == [page, away]


def test_what_the_settings_do_not_have() -> None:
    engines = [
        Engine(name="a", kind="echo", url="echo://"),
        Engine(name="b", url="http://localhost:1"),
    ]
    here, there = Found("http://127.0.0.1:1", "vllm"), Found("http://127.0.0.1:2", "vllm")
    assert found.new([here, there], engines) == [there]
