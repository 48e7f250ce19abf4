"""The engine that a worker starts itself; that it serves is shown with the real one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from schemas.settings import Engine
from workers.engines import KINDS
from workers.engines.base import EngineFault
from workers.engines.llamacpp import embedded as llamacpp_embedded
from workers.engines.llamacpp import server
from workers.engines.llamacpp.embedded import MODEL_ID


def arguments(**fields: object) -> dict[str, str]:
    """What follows each flag of the program."""
    config = Engine.model_validate({"name": "e", "kind": "embedded", **fields})
    _, _, program, alone, *rest = llamacpp_embedded.command(config)
    assert (program, alone) == (server.__file__, "--parent-stdin")
    return dict(zip(rest[::2], rest[1::2], strict=True))


def test_by_default_the_small_model() -> None:
    assert arguments() == {
        "--port": "{port}",
        "--model": str(server.default_model()),
        "--alias": MODEL_ID,
        "--slots": "4",
        "--context": "8192",
    }


def test_a_file_of_ones_own() -> None:
    found = arguments(file="~/models/qwen-7b.gguf", slots=2, context=4096)
    assert found["--model"] == "{file}"
    assert (found["--alias"], found["--slots"], found["--context"]) == ("qwen-7b", "2", "4096")
    assert arguments(file="x.gguf", models=["qwen", "other"])["--alias"] == "qwen"
    assert arguments(models=["tiny"])["--alias"] == "tiny"


def test_the_quickstart_is_of_a_known_kind() -> None:
    assert KINDS[llamacpp_embedded.quickstart().kind] is llamacpp_embedded.started


async def test_a_model_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    config = llamacpp_embedded.quickstart()
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    engine = llamacpp_embedded.started(config)
    await engine.open()
    with pytest.raises(EngineFault, match="is not installed") as fault:
        await engine.discover()
    assert (fault.value.away, fault.value.early) == (True, False)
    await engine.close()


def test_its_program_imports_nothing_of_ours() -> None:
    """It is run by its path, for a quick start."""
    code = (
        "import runpy, sys\n"
        f"runpy.run_path({server.__file__!r})\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('workers', 'schemas')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
