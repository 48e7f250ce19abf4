from __future__ import annotations

import os
from pathlib import Path

import pytest

from deploy.engines import machine


def test_free_memory_of_graphics_cards() -> None:
    assert machine.free_of("23456\n1024\n") == (23456 + 1024) * 2**20
    assert machine.free_of("") == 0
    assert machine.free_of("[N/A]\n") == 0


def test_this_machine() -> None:
    found = machine.look()
    assert 0 < found.memory <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert found.built_in


def test_a_program_by_name_and_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "llama-server"
    own.write_text("#!/bin/sh\n")
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert machine.program("llama-server") == str(own)
    assert machine.program("~/llama-server") == str(own)
    assert machine.program("sd-server") == ""
    assert machine.look().programs == {"llama-server": str(own)}
