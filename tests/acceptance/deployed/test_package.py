"""The wheel, as `pipx` and `uv` install it from a file and from a repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

import pytest
from openai import OpenAI

from headrace import PACKAGES
from tests.acceptance.deployed.conftest import ROOT, Tool
from tests.acceptance.headrace_up import LAST_LINE, Running, environment

SOURCES = ("pyproject.toml", "README.md", "LICENSE", "headrace.py", *PACKAGES)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is in the repository, without what builds leave there."""
    place = tmp_path_factory.mktemp("sources") / "headrace"
    place.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, place / name)
    return place


@pytest.fixture(scope="module")
def wheel(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("dist")
    copy = shutil.copytree(sources, place / "headrace")  # a build leaves files behind
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "-w", place, copy], check=True, capture_output=True)
    [made] = place.glob("headrace-*.whl")
    return made


@pytest.fixture(scope="module")
def installed(tool: Tool, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command, in an environment of its own that `uv` made."""
    home = tmp_path_factory.mktemp("uv")
    place = {"UV_TOOL_DIR": str(home / "tools"), "UV_TOOL_BIN_DIR": str(home / "bin")}
    tool("uv", "tool", "install", "--python", sys.executable, wheel, **place)
    return home / "bin" / "headrace"


def test_it_has_what_is_read_beside_modules(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    beside = {
        path.relative_to(ROOT).as_posix()
        for pattern in ("assets/*.css", "pages/*.js")
        for path in ROOT.glob(f"deploy/console/{pattern}")
    }
    assert {"deploy/config.example.toml", "deploy/compat/samples.json", *beside} <= {*names}
    assert beside
    folders = {name.rpartition("/")[0] for name in names if name.startswith(PACKAGES)}
    assert [each for each in folders if f"{each}/__init__.py" not in names] == []
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.startswith("headrace-")} == {"headrace.py", *PACKAGES}


def test_it_serves_from_an_environment_of_its_own(installed: Path, tmp_path: Path) -> None:
    """In a folder whose names are those of its packages, as users have them."""
    for name in PACKAGES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    data = str(tmp_path / "data")
    words = [str(installed), "up", "--data", data, "--port", "0", "--engine", "echo://"]
    running = Running(words, {**environment(), "PYTHONPATH": ""}, tmp_path)
    try:
        running.says(LAST_LINE)
        url = next(line.split()[-1] for line in running.lines if "base URL" in line)
        key = (Path(data) / "key").read_text().strip()
        client = OpenAI(base_url=url, api_key=key)
        [model] = [each.id for each in client.models.list()]
        answer = client.chat.completions.create(
            model=model, messages=[{"role": "user", "content": "hello"}]
        )
        assert answer.choices[0].message.content
        healthy = url.removesuffix("/v1") + "/healthz"
        assert urllib.request.urlopen(healthy).status == 200
        assert running.stop() == 0
    finally:
        running.reap()


def test_pipx_installs_the_file(tool: Tool, wheel: Path, tmp_path: Path) -> None:
    place = {"PIPX_HOME": str(tmp_path), "PIPX_BIN_DIR": str(tmp_path / "bin"), "PYTHONPATH": ""}
    tool("pipx", "install", "--python", sys.executable, wheel, **place)
    said = tool(str(tmp_path / "bin" / "headrace"), "--version", PYTHONPATH="")
    assert said.stdout.startswith("headrace ")


def test_uv_installs_from_a_repository(tool: Tool, sources: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(sources, tmp_path / "headrace")
    own = ["git", "-C", str(copy), "-c", "user.name=test", "-c", "user.email=test@localhost"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "all of it"]):
        subprocess.run([*own, *words], check=True, capture_output=True)
    place = {"UV_TOOL_DIR": str(tmp_path / "tools"), "UV_TOOL_BIN_DIR": str(tmp_path / "bin")}
    tool("uv", "tool", "install", "--python", sys.executable, f"git+file://{copy}", **place)
    said = tool(str(tmp_path / "bin" / "headrace"), "--version", PYTHONPATH="")
    assert said.stdout.startswith("headrace ")


def test_a_package_of_others_is_named(installed: Path, tmp_path: Path) -> None:
    """Where another package of the name comes first, that is the line; no traceback."""
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "__init__.py").write_text("raise SystemExit('a stranger ran')")
    done = subprocess.run(
        [installed, "--version"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 1
    assert done.stderr.startswith("headrace: the package 'schemas' that Python finds is ")
    assert done.stderr.count("\n") == 1
