"""`headrace engine add`, without other processes."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer

from deploy.configure import Where
from deploy.engines import config_file, found, machine, processes
from deploy.engines.adding import Adding, Ask, words
from deploy.engines.faults import BadInput
from deploy.engines.found import Found
from deploy.engines.machine import Machine
from deploy.engines.processes import Process
from deploy.engines.starting import Wish
from schemas.settings import Engine, load
from tests.unit.deploy.engines import files

RUNS = "http://127.0.0.1:8081"
LLAMA = Found(RUNS, "llamacpp", ("qwen3",), 4, "llama-server", 7)
OLLAMA = Found("http://127.0.0.1:11434", "ollama", ("tiny:latest",), 1, "ollama", 8)
VLLM = Found("http://127.0.0.1:8000", "vllm", wants_key=True)
HERE = Machine(64 * 2**30, programs={"llama-server": "/usr/bin/llama-server"}, built_in=True)


class Setup:
    """A machine with the engines `runs` and the processes `known`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = folder / "headrace.toml"
        self.runs: list[Found] = []
        self.known: dict[int, Process] = {}
        self.here = HERE
        self.said: list[str] = []
        self.signals: list[tuple[int, int]] = []

        async def look() -> list[Found]:
            return self.runs

        async def ask(url: str, **_: Any) -> Found | None:
            return next((each for each in self.runs if each.url == url), None)

        monkeypatch.setattr(found, "look", look)
        monkeypatch.setattr(found, "ask", ask)
        monkeypatch.setattr(machine, "look", lambda: self.here)
        monkeypatch.setattr(processes, "own", lambda: self.known)
        monkeypatch.setattr(os, "kill", lambda *told: self.signals.append(told))

    async def add(self, target: str = "", *, yes: bool = True, **said: Any) -> Sequence[Engine]:
        own = {key: said.pop(key) for key in ("kind", "key") if key in said}
        where = Where(self.path.parent / "data", self.path)
        await Adding(where, Ask(target, Wish(**said), yes=yes, **own), self.said.append).run()
        return load(self.path).engines if self.path.exists() else []

    @property
    def text(self) -> str:
        return "\n".join(self.said)


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    return Setup(tmp_path, monkeypatch)


async def test_all_that_runs(setup: Setup) -> None:
    setup.runs = [LLAMA, OLLAMA]
    added = await setup.add()
    assert [(each.name, each.kind, each.url) for each in added] == [
        ("llamacpp", "llamacpp", RUNS),
        ("ollama", "ollama", OLLAMA.url),
    ]
    assert "# qwen3\n" in setup.path.read_text()
    with pytest.raises(BadInput, match="nothing else runs here that is known"):
        await setup.add()


async def test_two_of_a_kind_have_names_of_their_own(setup: Setup) -> None:
    setup.runs = [LLAMA, Found("http://127.0.0.1:8082", "llamacpp")]
    assert [each.name for each in await setup.add()] == ["llamacpp", "llamacpp-2"]


@pytest.mark.parametrize("name", ["ollama", "llamacpp", "llama-server"])
async def test_by_its_kind_or_its_program(setup: Setup, name: str) -> None:
    setup.runs = [LLAMA, OLLAMA]
    [added] = await setup.add(name)
    assert added.kind == ("ollama" if name == "ollama" else "llamacpp")
    with pytest.raises(BadInput, match="is in the settings already, at http"):
        await setup.add(name)


async def test_by_its_url(setup: Setup) -> None:
    setup.runs = [LLAMA]
    [added] = await setup.add(f"{RUNS}/v1/", name="gpu", models=("gpt-4o",), slots=2)
    assert (added.name, added.url, added.models, added.slots) == ("gpu", RUNS, ["gpt-4o"], 2)
    with pytest.raises(BadInput, match="the engine 'gpu' is that already: http://localhost:8081"):
        await setup.add("http://localhost:8081")


async def test_one_that_does_not_run_yet_needs_its_kind(setup: Setup) -> None:
    with pytest.raises(BadInput, match="start it, or say what it is, as with --kind openai"):
        await setup.add(RUNS)
    [added] = await setup.add(RUNS, kind="vllm")
    assert (added.kind, added.url) == ("vllm", RUNS)
    assert "# it does not answer now" in setup.text


async def test_a_name_that_is_taken(setup: Setup) -> None:
    setup.runs = [LLAMA, OLLAMA]
    await setup.add(RUNS, name="gpu")
    with pytest.raises(BadInput, match="there is an engine 'gpu' already: give this one another"):
        await setup.add("ollama", name="gpu")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"target": "ftp://h"}, "is no URL such as"),
        ({"target": "http://"}, "is no URL such as"),
        ({"target": "http://h:1?a"}, "is no URL such as"),
        ({"target": "http://[::1"}, "is no URL such as"),
        ({"target": "http://h:99999"}, "is no URL such as"),
        ({"target": RUNS, "kind": "lama"}, "there is no kind 'lama', but llamacpp, echo"),
        ({"target": RUNS, "context": 4096}, "runs already: only its --name, --models and --slots"),
        ({"target": RUNS, "more": ("-v",)}, "runs already"),
        ({"target": "olama"}, "is no file, no URL and no engine that runs here; did you mean"),
        ({"target": "whisper"}, "no whisper runs here: start it, or name its URL, or a model's"),
        ({"target": "nothing.gguf"}, "nothing.gguf: No such file or directory"),
        ({"target": "./nothing"}, "nothing: No such file or directory"),
        ({"target": RUNS, "key": "sk-secret"}, "others can read what stands in a command"),
        ({"target": RUNS, "key": "@/nowhere"}, "--key @/nowhere: No such file"),
    ],
)
async def test_what_is_wrong_is_said(setup: Setup, said: dict[str, Any], why: str) -> None:
    setup.runs = [LLAMA]
    with pytest.raises(BadInput, match=why):
        await setup.add(**said)
    assert not setup.path.exists()


async def test_settings_that_are_wrong_already(setup: Setup) -> None:
    setup.path.write_text("[ingress]\nprot = 1\n")
    with pytest.raises(BadInput, match=r"mend the settings first: ingress\.prot"):
        await setup.add(RUNS)


async def test_a_file_is_started_by_the_worker(setup: Setup, tmp_path: Path) -> None:
    model = files.gguf(tmp_path / "llama.gguf", files.LLAMA)
    [added] = await setup.add(str(model))
    assert (added.kind, added.file) == ("llamacpp", str(model))
    assert added.command[0] == "/usr/bin/llama-server"
    with pytest.raises(BadInput, match=r"the engine 'llama' is that already: .*--name gives it"):
        await setup.add(str(model))
    assert [each.name for each in await setup.add(str(model), name="second")] == ["llama", "second"]
    with pytest.raises(BadInput, match="is for llamacpp, and not for whisper"):
        await setup.add(str(model), kind="whisper")


async def test_a_second_whisper_model_does_not_share_the_firsts_name(
    setup: Setup, tmp_path: Path
) -> None:
    setup.here = Machine(2**30, programs={"whisper-server": "/usr/bin/whisper-server"})
    for name in ("ggml-tiny.bin", "ggml-base.bin"):
        added = await setup.add(str(files.whisper(tmp_path / name)))
    assert [each.models for each in added] == [["whisper-1", "whisper-tiny"], ["whisper-base"]]


async def test_ollama_that_does_not_run_is_started(setup: Setup) -> None:
    setup.here = Machine(2**30, programs={"ollama": "/usr/bin/ollama"})
    [added] = await setup.add("ollama")
    assert added.command == ["ollama", "serve"]
    assert added.env["OLLAMA_HOST"].get_secret_value() == "127.0.0.1:{port}"


async def test_the_small_model(setup: Setup) -> None:
    [added] = await setup.add("embedded")
    assert (added.name, added.kind) == ("embedded", "embedded")
    with pytest.raises(BadInput, match="is that already: the small model"):
        await setup.add("embedded")


async def test_a_key_is_written_and_not_shown(setup: Setup, tmp_path: Path) -> None:
    setup.runs = [VLLM]
    with pytest.raises(BadInput, match="wants its key: --key @FILE"):
        await setup.add("vllm")
    secret = tmp_path / "secret"
    secret.write_text("sk-hunter2\n")
    [added] = await setup.add("vllm", key=f"@{secret}")
    assert added.api_key.get_secret_value() == "sk-hunter2"
    assert "hunter2" not in setup.text
    assert "others can read" not in setup.text


async def test_a_key_from_standard_input_is_read_once(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup.runs = [VLLM]
    monkeypatch.setattr("sys.stdin", io.StringIO("sk-hunter2\n"))
    [added] = await setup.add(VLLM.url, key="-")
    assert added.api_key.get_secret_value() == "sk-hunter2"


async def test_a_key_in_a_file_that_others_read(setup: Setup, tmp_path: Path) -> None:
    setup.runs = [VLLM]
    setup.path.write_text("")
    setup.path.chmod(0o644)
    secret = tmp_path / "secret"
    secret.write_text("sk-hunter2")
    await setup.add(VLLM.url, key=f"@{secret}")
    assert f"others can read the key in it: chmod 600 {setup.path}" in setup.said


async def test_nothing_is_written_without_a_word(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup.runs = [LLAMA]
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    with pytest.raises(BadInput, match="nothing is written without a word: say --yes"):
        await setup.add(RUNS, yes=False)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(typer, "confirm", lambda *_, **__: False)
    assert await setup.add(RUNS, yes=False) == []
    assert setup.text.endswith('url = "http://127.0.0.1:8081"\n')
    monkeypatch.setattr(typer, "confirm", lambda *_, **__: True)
    assert len(await setup.add(RUNS, yes=False)) == 1


def worker(setup: Setup, pid: int, *words: str, takes: bool = True) -> None:
    command = ("python3", "-m", "deploy", "worker", *words)
    setup.known[pid] = Process(pid, 1, command, str(setup.path.parent), takes)


async def test_workers_that_run_with_the_file_take_it(setup: Setup) -> None:
    setup.runs = [LLAMA]
    own = ("--config", "headrace.toml")
    worker(setup, 10, *own)
    worker(setup, 11, *own, "--engine", "echo://")
    worker(setup, 12, *own, takes=False)
    worker(setup, 13, "--config", "other.toml")
    await setup.add(RUNS)
    assert setup.signals == [(10, signal.SIGHUP)]
    assert setup.said[-3:] == [
        "the worker 10 takes it now: see 'headrace engine list'",
        "the worker 11 was started with --engine, which goes before the file: start it again "
        "without",
        "start the worker 12 again: it does not read settings anew",
    ]


async def test_workers_take_what_was_written_before_a_fault(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup.runs = [LLAMA, OLLAMA]
    write = config_file.append

    def full(place: Path, text: str) -> None:
        if OLLAMA.url in text:
            raise BadInput("no space is left")
        write(place, text)

    monkeypatch.setattr(config_file, "append", full)
    with pytest.raises(BadInput, match="no space is left"):
        await setup.add()
    assert "start it: " in setup.said[-1]


async def test_it_says_how_to_start(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    setup.runs = [LLAMA, OLLAMA]
    monkeypatch.delenv("HEADRACE_ENGINES", raising=False)
    await setup.add(RUNS)
    assert setup.said[-1].startswith("start it: ")
    assert setup.said[-1].endswith(f" up --config {setup.path}")
    worker(setup, 13)
    await setup.add("ollama")
    assert setup.said[-1].startswith("a worker runs without this file; start it again: ")


def test_names_with_commas() -> None:
    assert words(["a, b", "c", ","]) == ("a", "b", "c")
