from __future__ import annotations

import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from workers.engines.llamacpp import server
from workers.engines.llamacpp.server import ModelMissing, default_model, default_threads


def package_at(folder: Path | None) -> ModuleSpec:
    spec = ModuleSpec(server.MODEL_PACKAGE, None, is_package=True)
    spec.submodule_search_locations = [str(folder)] if folder else []
    return spec


def test_finds_the_model_of_the_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "small.gguf"
    model.touch()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: package_at(tmp_path))

    assert default_model() == model
    assert server.MODEL_PACKAGE not in sys.modules


@pytest.mark.parametrize("package", [None, "empty", "nowhere"])
def test_says_what_to_install_when_there_is_no_model(
    package: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path if package == "empty" else None
    spec = package_at(folder) if package else None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)

    with pytest.raises(ModelMissing, match=r"scripts/install .* --engine llamacpp="):
        default_model()


@pytest.mark.parametrize(
    ("cores", "quota", "threads"),
    [(1, 64, 1), (2, 64, 1), (4, 64, 3), (64, 64, 8), (16, 4, 3), (16, 1, 1)],
)
def test_a_core_stays_free(
    cores: int, quota: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    monkeypatch.setattr(server, "_siblings", str)
    monkeypatch.setattr(server, "_cpu_quota", lambda: quota)

    assert default_threads() == threads


def test_hardware_threads_of_one_core_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(server, "_siblings", lambda cpu: str(cpu // 2))
    monkeypatch.setattr(server, "_cpu_quota", lambda: 64)

    assert default_threads() == 3


def test_a_missing_wheel_is_told_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(b"GGUF")
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    options = server._options(["--model", str(model), "--alias", "x"])

    with pytest.raises(server.CannotServe, match="xllamacpp is not installed: scripts/install"):
        server._serve(options)
