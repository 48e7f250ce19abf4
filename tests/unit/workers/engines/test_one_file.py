"""A new engine is a file or a folder, and a line in `KINDS` (ADR 0010): here they are."""

from __future__ import annotations

import asyncio
import importlib
import sys
from pathlib import Path

import orjson
import pytest

from deploy import configure
from schemas import settings
from schemas.frames import Role
from schemas.settings import Settings, SettingsError
from tests.doubles.drive import CHAT, RecordingSink, job
from tests.unit import fakes
from tests.unit.fakes import FakeBus
from workers import engines
from workers.engine_slots import EngineSlots
from workers.runner import Runner

FILE = '''
"""Counts letters. Its server takes a line and answers with a line."""

import asyncio
from urllib.parse import urlsplit

from schemas.frames import End
from schemas.nodes import ServedModel
from workers.engines.base import EngineFault, Offer


class CounterEngine:
    kind = "counter"

    def __init__(self, config):
        self.name = config.name
        self._address = urlsplit(config.url)

    async def open(self): ...
    async def close(self): ...

    async def discover(self):
        slots = int(await self._ask(b"slots"))
        model = ServedModel("letters", self.name, self.kind, slots, features=("chat",))
        return Offer(slots, (model,))

    async def check(self):
        if await self._ask(b"abc") != b"3":
            raise EngineFault(f"{self.name} cannot count", away=True)

    async def probe(self):
        return await self._ask(b"") == b"0"

    async def run(self, job, body, sink):
        answer = await self._ask(body)
        sink.start(200, "application/json")
        sink.data(answer)
        return End(len(body), 1)

    async def _ask(self, line):
        try:
            reader, writer = await asyncio.open_connection(
                self._address.hostname, self._address.port
            )
            writer.write(line + b"\\n")
            answer = await reader.readline()
            writer.close()
            return answer.strip()
        except OSError as fault:
            raise EngineFault(f"{self.name} cannot be reached: {fault}", away=True) from None
'''

SERVER = """
import socketserver, sys
class Answer(socketserver.StreamRequestHandler):
    def handle(self):
        line = self.rfile.readline().strip()
        self.wfile.write(b"3" if line == b"slots" else str(len(line)).encode())
socketserver.TCPServer.allow_reuse_address = True
socketserver.TCPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""


@pytest.fixture(params=["counter.py", "counter/engine.py"])
def _counter(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file, or the folder, and the line."""
    file: Path = tmp_path / request.param
    file.parent.mkdir(exist_ok=True)
    file.write_text(FILE)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("counter", "counter.engine"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    module = request.param.removesuffix(".py").replace("/", ".")
    monkeypatch.setitem(engines.KINDS, "counter", importlib.import_module(module).CounterEngine)


COMMAND = f"""
[[engines]]
name = "mine"
kind = "counter"
command = [{sys.executable!r}, "-S", "-c", '''{SERVER}''', "{{port}}"]
"""


def configured(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "headrace.toml"
    path.write_text(text)
    return configure.read(path)


@pytest.mark.usefixtures("_counter")
async def test_it_is_started_checked_and_serves(tmp_path: Path, bus: FakeBus) -> None:
    """From the config to the answer, as a worker does it."""
    found = configured(tmp_path, COMMAND)
    (config,) = found.engines
    engine = engines.build(config)
    runner = Runner(bus, Role.WORKER, fakes.HOLDER, "node", found)
    news = asyncio.Event()
    slots = EngineSlots(bus, runner, engine, config, found, news.set, {})
    await engine.open()
    slots.start()
    try:
        async with asyncio.timeout(fakes.PATIENCE):
            while not slots.ready:
                news.clear()
                await news.wait()
            assert (slots.state.kind, slots.state.slots) == ("counter", 3)
            assert [model.id for model in slots.models] == ["letters"]
            pulls = [post.payload for post in bus.posts if ".MSG.NEXT." in post.subject]
            assert [orjson.loads(each)["batch"] for each in pulls] == [3, 1]  # for all, its node's
            sink = RecordingSink()
            await engine.run(job("letters", CHAT), b"headrace", sink)
            assert (sink.status, sink.body) == (200, b"8")
            assert await engine.probe()
    finally:
        await slots.drain()
        await engine.close()


@pytest.mark.usefixtures("_counter")
def test_the_command_line_knows_it() -> None:
    found = configure.parse_engine("counter=http://127.0.0.1:1")
    assert (found["kind"], found["name"]) == ("counter", "counter")
    made = engines.build(settings.Engine(**found))
    assert (made.name, made.kind, type(made).__name__) == ("counter", "counter", "CounterEngine")


def test_without_the_line_it_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"engines\.0\.kind: there is no kind 'counter'"):
        configured(tmp_path, COMMAND)
    near = "[[engines]]\nname = 'a'\nkind = 'lamacpp'\nurl = 'http://127.0.0.1:1'\n"
    with pytest.raises(SettingsError, match="did you mean 'llamacpp'"):
        configured(tmp_path, near)


def test_each_kind_is_told_to_its_users() -> None:
    example = (Path(__file__).parents[4] / "deploy" / "config.example.toml").read_text()
    assert [kind for kind in engines.KINDS if f'"{kind}"' not in example] == []
