"""The image and the composition of `deploy/docker/`. No Docker runs here: what the build does step
by step, and each command of the composition, is run in folders of its own."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from tests import ports
from tests.acceptance.deployed.conftest import ROOT, Tool
from tests.acceptance.headrace_up import HEADRACE, Running, environment
from tests.commands import taken

DOCKER = ROOT / "deploy" / "docker"
DOCKERFILE = DOCKER / "Dockerfile"
SENT = DOCKER / "Dockerfile.dockerignore"
SECRET = re.compile(r"hrj1_\w|hr_sk_\w|sk-headrace|password\s*=|PRIVATE KEY", re.IGNORECASE)


def instructions(stage: str) -> list[tuple[str, str]]:
    """(word, rest) of each instruction of a stage."""
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE))
    lines = [line.partition(" ")[::2] for line in text.splitlines() if line.strip()]
    starts = [at for at, line in enumerate(lines) if line[0] == "FROM"] + [len(lines)]
    for start, end in itertools.pairwise(starts):
        if lines[start][1].endswith(f" AS {stage}"):
            return lines[start + 1 : end]
    raise AssertionError(f"no stage {stage}")


def test_the_linter_likes_the_image(tool: Tool) -> None:
    tool("hadolint", "--failure-threshold", "info", DOCKERFILE)


def test_it_runs_as_nobody_in_particular_from_a_base_that_is_named() -> None:
    [user] = [rest for word, rest in instructions("run") if word == "USER"]
    assert user.split(":")[0] != "0"
    assert re.search(r"^ARG BASE=\S+:\d+\.\d+\.\d+-", DOCKERFILE.read_text(), re.MULTILINE)
    assert [path for path in DOCKER.iterdir() if SECRET.search(path.read_text())] == []


@pytest.fixture(scope="module")
def image(tools: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the stage `all` makes of what the builder is sent, with uv in place of pip, which takes
    a minute, and without the small model and its server, which are half of all."""
    place = tmp_path_factory.mktemp("image")
    sent = place / "src"
    sent.mkdir()
    quick = f"{tools / 'uv'} pip install --python {place / 'opt'}"
    for word, rest in instructions("all"):
        match word:
            case "COPY":
                *names, target = rest.split()
                for name in names:
                    copy(name, sent / target)
            case "RUN" if "locks/model.txt" not in rest:
                line = rest.replace("/opt/headrace/bin/pip install", quick)
                run(line.replace("/opt/headrace", str(place / "opt")), sent)
    return place / "opt"


def copy(name: str, target: Path) -> None:
    """As the builder does, which is sent nothing that is not named."""
    sent = SENT.read_text().split()
    assert f"!{name.rstrip('/')}" in sent
    if (ROOT / name).is_dir():
        not_sent = [Path(each).name for each in sent if each.startswith(("deploy/", "**/"))]
        ignored = shutil.ignore_patterns(*not_sent)
        shutil.copytree(ROOT / name, target, ignore=ignored)
    else:
        target.mkdir(exist_ok=True, parents=True)
        shutil.copy(ROOT / name, target)


def run(line: str, folder: Path) -> None:
    own = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": ""}
    done = subprocess.run(
        ["sh", "-c", line],
        cwd=folder,
        env={**environment(), **own},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{line}: {done.stdout[-2000:]}{done.stderr[-2000:]}"


def test_the_steps_of_the_build_make_an_environment_that_works(image: Path) -> None:
    own = {**environment(), "PATH": f"{image / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": ""}
    [entry] = [json.loads(rest) for word, rest in instructions("run") if word == "ENTRYPOINT"]
    done = subprocess.run(
        [*entry, "--version"], env=own, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("headrace ")
    assert (image / "bin" / "nats-server").exists()
    [packages] = image.glob("lib/python3*/site-packages")
    settings = [path.name for path in (packages / "deploy").rglob("*.toml")]
    assert settings == ["config.example.toml"]


@dataclass(frozen=True)
class Composed:
    """The composition, put on this machine: folders are those of `home`, and ports are free."""

    services: dict[str, Any]
    home: Path
    replaced: dict[str, str]

    def words(self, service: str, what: str = "command") -> list[str]:
        found = [word.replace("$$", "$") for word in self.services[service][what] or ()]
        return [self.here(word, service) for word in found]

    def here(self, text: str, service: str) -> str:
        for old, new in self.replaced.items():
            text = text.replace(old, new)
        return text.replace("/data", str(self.data(service)))

    def data(self, service: str) -> Path:
        [volume] = [
            each["source"]
            for each in self.services[service]["volumes"]
            if each["target"] == "/data"
        ]
        place = self.home / str(volume)
        place.mkdir(mode=0o700, exist_ok=True)
        return place

    def variables(self, service: str) -> dict[str, str]:
        said = self.services[service].get("environment") or {}
        own = {name: self.here(value, service) for name, value in said.items()}
        path = f"{Path(HEADRACE[0]).parent}:{os.environ['PATH']}"
        place = {"HEADRACE_DATA": str(self.data(service)), "PATH": path}
        number = {
            "HEADRACE_SHARE__PORT": self.replaced["4222"],
            "HEADRACE_INGRESS__PORT": self.replaced["8080"],
            "HEADRACE_WORKER__METRICS_PORT": self.replaced["9464"],
        }
        return {**environment(), **own, **place, **number}

    @contextlib.contextmanager
    def running(self, service: str) -> Iterator[Running]:
        made = Running([*HEADRACE, *self.words(service)], self.variables(service))
        try:
            yield made
        finally:
            made.reap()

    def once(self, service: str) -> None:
        words = [*self.words(service, "entrypoint"), *self.words(service)]
        done = subprocess.run(
            words, env=self.variables(service), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def healthy(self, service: str) -> None:
        form, *words = self.services[service]["healthcheck"]["test"]
        assert form == "CMD"
        words = [self.here(word, service) for word in words]
        subprocess.run(words, env=self.variables(service), check=True, capture_output=True)


@pytest.fixture
def composed(tool: Tool, tmp_path: Path) -> Composed:
    said = tool(
        "docker-compose",
        *("--file", DOCKER / "compose.yaml", "--profile", "*", "config", "--format", "json"),
    )
    replaced = {name: str(ports.free()) for name in ("4222", "8080", "9464")}
    replaced |= {
        "/run/secrets/headrace.toml": str(DOCKER / "headrace.toml"),
        "/tokens": str(tmp_path / "tokens"),
    }
    (tmp_path / "tokens").mkdir()
    return Composed(json.loads(said.stdout)["services"], tmp_path, replaced)


def test_headrace_takes_the_commands(composed: Composed) -> None:
    ours = [name for name, each in composed.services.items() if "build" in each]
    assert len(ours) == 6
    for name in ours:
        if composed.services[name]["entrypoint"] is None:
            taken(composed.services[name]["command"])


def test_what_runs_may_little(composed: Composed) -> None:
    for each in composed.services.values():
        assert each["cap_drop"] == ["ALL"]
        assert each["security_opt"] == ["no-new-privileges:true"]
    for name in ("broker", "ingress", "worker", "worker-gpu"):
        assert composed.services[name]["read_only"]
    [port] = composed.services["ingress"]["ports"]
    assert port["host_ip"] == "127.0.0.1"
    assert all(
        not each.get("ports") for name, each in composed.services.items() if name != "ingress"
    )


def test_everything_comes_up_as_it_is_composed(composed: Composed) -> None:
    """Twice: a composition that is stopped comes back, and no token is needed again."""
    engine = ["--engine", "echo://?model=small"]  # the small model has a test of its own
    composed.services["worker"]["command"] += engine
    # All of them are on this machine.
    broker = composed.services["broker"]
    assert broker["command"][-2:] == ["--share-as", "broker"]
    broker["command"][-1] = "127.0.0.1"
    with composed.running("broker") as hub:
        hub.says("Ctrl-C stops it.")
        composed.healthy("broker")
        for _ in range(2):
            composed.once("invite")
            with composed.running("ingress") as ingress, composed.running("worker") as worker:
                ingress.says("ingress.listening")
                worker.says("engine.ready")
                ingress.says("models.changed")
                key = (composed.data("broker") / "first.key").read_text().strip()
                url = f"http://127.0.0.1:{composed.replaced['8080']}/v1"
                client = OpenAI(base_url=url, api_key=key)
                assert [each.id for each in client.models.list()] == ["small"]
                assert client.chat.completions.create(
                    model="small", messages=[{"role": "user", "content": "hello"}]
                )
                composed.healthy("ingress")
                composed.healthy("worker")
                assert worker.stop() == 0
                assert ingress.stop() == 0
        assert hub.stop() == 0
