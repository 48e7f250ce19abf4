"""`headrace engine`: model files and servers become engines of a fabric that runs."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.acceptance.headrace_up import PATIENCE, HeadraceUp, environment, headrace, up
from tests.builders import mmproj
from tests.doubles.sdserver.pictures import png
from tests.real import sd, whisper
from workers.engines.llamacpp import server

ROOT = Path(__file__).parents[2]
ECHO = '# mine\n[[engines]]\nname = "echo"\nkind = "echo"\nurl = "echo://?slots=1"\n'
VLLM = """
from tests.doubles.base import main
from tests.doubles.vllm.server import Vllm

main(Vllm(parser=True))
"""
SAID = "ask not what your country can do for you"
SMALL = ("--slots", "1", "--context", "1024")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "headrace.toml"


def add(config: Path, *words: str | Path, code: int = 0) -> str:
    """What `headrace engine add` says. No server of this machine's own is in PATH."""
    target, *more = words
    own = ("--config", config, "--data", config.parent / "data", "--yes")
    done = headrace("engine", "add", *own, target, *more, PATH=str(config.parent))
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def listed(config: Path) -> dict[str, Any]:
    own = ("--config", config, "--data", config.parent / "data", "--json")
    done = headrace("engine", "list", *own)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextmanager
def started(config: Path) -> Iterator[HeadraceUp]:
    with up(config.parent / "data", "--config", str(config)) as running:
        yield running
        assert running.stop() == 0


def client(running: HeadraceUp) -> openai.OpenAI:
    key = (running.data / "key").read_text().strip()
    return openai.OpenAI(base_url=running.url, api_key=key, max_retries=0, timeout=PATIENCE)


def served(running: HeadraceUp, engine: str, model: str) -> None:
    """Wait until the engine is ready, and its model is known to the ingress."""
    running.says(f"the engine {engine} on ")
    page = f"{running.url.removesuffix('/v1')}/readyz?model={model}"
    end = time.monotonic() + PATIENCE
    while status(page) != 200:
        assert time.monotonic() < end, running.text
        time.sleep(0.05)


def status(page: str) -> int:
    try:
        with urllib.request.urlopen(page, timeout=PATIENCE):
            return 200
    except urllib.error.HTTPError as refused:
        refused.close()
        return refused.code


def asked(openai_client: openai.OpenAI, model: str, *parts: Any) -> Any:
    content: Any = [{"type": "text", "text": "What is this?"}, *parts]
    messages: Any = [{"role": "user", "content": content}]
    return openai_client.chat.completions.create(model=model, messages=messages, max_tokens=8)


@contextmanager
def vllm(folder: Path) -> Iterator[str]:
    """A server that this machine knows as the program `vllm`; its URL."""
    program = folder / "vllm"
    program.write_text(VLLM)
    command = [sys.executable, str(program), "--port", "0"]
    path = {**environment(), "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=path) as running:
        try:
            assert running.stdout
            yield json.loads(running.stdout.readline())["url"]
        finally:
            running.kill()


def test_files_and_servers_become_engines(config: Path) -> None:
    model = config.parent / "chat.gguf"
    model.symlink_to(server.default_model())
    said = add(config, model, *SMALL)
    assert f"headrace up --config {config}" in said
    assert config.stat().st_mode & 0o777 == 0o600
    with started(config) as running, client(running) as asking:
        assert asked(asking, "chat").choices[0].message.content
        # One that runs already: it is found, and taken while all goes on.
        with vllm(config.parent) as url:
            [seen] = [each for each in listed(config)["found"] if each["url"] == url]
            assert (seen["kind"], seen["program"], seen["configured"]) == ("vllm", "vllm", False)
            assert seen["models"] == ["tiny"]
            assert "takes it now" in add(config, url)
            served(running, "vllm", "tiny")
            assert asked(asking, "tiny").choices[0].message.content
            now = listed(config)
        engines = {each["name"]: (each["state"], each["models"]) for each in now["engines"]}
        assert engines == {"chat": ("ready", ["chat"]), "vllm": ("ready", ["tiny"])}
        assert [each["configured"] for each in now["found"] if each["url"] == url] == [True]
        # What the built-in server listens at is no other engine.
        ours = {each["program"] for each in now["found"] if "chat" in each["models"]}
        assert ours == set()


def test_a_model_sees_with_the_projector_beside_it(config: Path) -> None:
    config.write_text(ECHO)
    (config.parent / "eyes.gguf").symlink_to(server.default_model())
    made = mmproj.build(lambda line: print(line, file=sys.stderr))
    (config.parent / "eyes-mmproj.gguf").symlink_to(made.file)
    with started(config) as running, client(running) as asking:
        said = add(config, config.parent / "eyes.gguf", *SMALL)
        assert "# it sees or hears with eyes-mmproj.gguf" in said
        assert config.read_text().startswith(ECHO)
        served(running, "eyes", "eyes")
        picture = f"data:image/png;base64,{base64.b64encode(png(64, 64, bytes(192))).decode()}"
        seen = asked(asking, "eyes", {"type": "image_url", "image_url": {"url": picture}})
        blind = asked(asking, "eyes")
        assert seen.usage.prompt_tokens > blind.usage.prompt_tokens + 10


@pytest.mark.real_whisper
def test_a_whisper_model_hears(config: Path) -> None:
    config.write_text(ECHO)
    real = whisper.built()
    with started(config) as running, client(running) as asking:
        add(config, real.model, "--program", real.server, "--name", "ears", "--", "--threads", "1")
        served(running, "ears", "whisper-1")
        heard = asking.audio.transcriptions.create(model="whisper-1", file=real.speech)
        assert SAID in heard.text


@pytest.mark.real_sd
def test_an_image_model_draws_with_the_encoders_beside_it(config: Path) -> None:
    config.write_text(ECHO)
    real = sd.built()
    for file in (real.diffusion_model, real.tae, real.clip_l):
        (config.parent / file.name).symlink_to(file)
    model = config.parent / real.diffusion_model.name
    with started(config) as running, client(running) as asking:
        flags = ("--", "--threads", "1", *sd.DEFAULTS)
        add(config, model, "--program", real.server, "--name", "paint", *flags)
        served(running, "paint", model.stem)
        drawn = asking.images.generate(model=model.stem, prompt="a cat", size="64x64")
        assert drawn.data
        assert base64.b64decode(drawn.data[0].b64_json or "").startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("nothing.gguf",), "nothing.gguf: No such file or directory"),
        (("http://127.0.0.1:9",), "nothing that is known as an engine answers at"),
        (("olama",), "did you mean 'ollama'?"),
        (("http://127.0.0.1:9", "--key", "sk-secret"), "others can read what stands in a command"),
        (("http://127.0.0.1:9", "--slots", "-1"), "Invalid value for '--slots'"),
    ],
)
def test_bad_input(config: Path, words: tuple[str, ...], why: str) -> None:
    config.write_text(ECHO)
    said = add(config, *words, code=2)
    assert why in said
    assert "Traceback" not in said
    assert config.read_text() == ECHO


def test_a_list_beside_nothing(config: Path) -> None:
    config.write_text(ECHO)
    found = listed(config)
    [echo] = found["engines"]
    assert (echo["name"], echo["state"], found["config"]) == ("echo", "not running", str(config))
    done = headrace("engine", "list", "--config", config, "--data", config.parent / "data")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Configured" in done.stdout
    assert f"settings: {config}" in done.stdout
