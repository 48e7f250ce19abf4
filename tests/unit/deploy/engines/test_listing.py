"""The rows of `headrace engine list`."""

from __future__ import annotations

from deploy.engines import listing
from deploy.engines.listing import Row
from schemas.nodes import Card, EngineState, ServedModel
from schemas.settings import Engine

ENGINES = [
    Engine(name="gpu", url="http://127.0.0.1:8081"),
    Engine(
        name="ears",
        kind="whisper",
        command=["/x/whisper-server", "-m", "{file}", "{port}"],
        file="/models/ggml-base.bin",
        models=["whisper-1"],
    ),
    Engine(name="small", kind="embedded"),
]


def card(*states: EngineState, models: tuple[ServedModel, ...] = ()) -> Card:
    return Card("box.1", "box", "S", 1, "0.1.0", engines=states, models=models)


def test_what_does_not_run() -> None:
    assert listing.rows(ENGINES, []) == [
        Row("gpu", "llamacpp", "http://127.0.0.1:8081", "not running"),
        Row(
            "ears", "whisper", "whisper-server ggml-base.bin", "not running", models=("whisper-1",)
        ),
        Row("small", "embedded", "built-in", "not running"),
    ]


def test_how_they_stand() -> None:
    models = tuple(ServedModel(name, "gpu", "llamacpp", 4) for name in ("a", "b"))
    seen = [
        card(EngineState("gpu", "llamacpp", "ready", 4, 1), models=models),
        card(EngineState("ears", "whisper", "failed", 0, 0, "exit code 1")),
    ]
    gpu, ears, _ = listing.rows(ENGINES, seen)
    assert (gpu.state, gpu.slots, gpu.models) == ("ready", 4, ("a", "b"))
    assert (ears.state, ears.reason) == ("failed", "exit code 1")


def test_engines_of_the_command_line_alone() -> None:
    models = (ServedModel("a", "own", "vllm", 4),)
    found = listing.rows([], [card(EngineState("own", "vllm", "ready", 4, 0), models=models)])
    assert found == [
        Row("own", "vllm", "(not in the settings)", "ready", "", 4, ("a",), listed=False)
    ]
