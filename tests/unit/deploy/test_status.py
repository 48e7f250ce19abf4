"""The tables of `headrace status`."""

from __future__ import annotations

import io
import time

import orjson
import pytest
from rich.console import Console

from deploy import status
from deploy.survey import IngressSeen, Queue, Survey
from schemas.nodes import Card, EngineState, ServedModel


def card(holder: str, node: str, busy: int, **fields: object) -> Card:
    return Card(
        holder=holder,
        node=node,
        server="s",
        client=1,
        version="1.0",
        engines=(
            EngineState("gpu", "llamacpp", "ready", 4, busy),
            EngineState("ears", "whisper", "failed", 0, 0, "refused [Errno 111]"),
        ),
        models=(ServedModel("qwen", "gpu", "llamacpp", 4),),
        jobs=busy,
        started=int(time.time()) - 7300,
        **fields,  # type: ignore[arg-type]
    )


def whole() -> Survey:
    return Survey(
        broker="nats://127.0.0.1:4222",
        version="2.15.1",
        ingresses=(IngressSeen("in-1", "127.0.0.1:8080", "1.0"),),
        cards=(card("a-1", "a", 4), card("b-1", "b", 1, draining=True)),
        queues=(
            Queue("gone", "b", 2, 2, 0, 7500.0, 0, False),
            Queue("qwen", "i", 9, 4, 5, 0.25, 1, True),
        ),
        dead={"qwen": 3},
    )


EMPTY = Survey("nats://127.0.0.1:4222", "2.15.1", (), (), (), {})


def shown(survey: Survey) -> list[list[str]]:
    out = io.StringIO()
    Console(file=out, width=status.WIDTH, highlight=False).print(status.render(survey))
    return [line.split() for line in out.getvalue().splitlines()]


def test_workers_and_engines() -> None:
    lines = shown(whole())
    assert ["a", "a-1", "serving", "4", "4", "2", "h", "1", "min", "1.0"] in lines
    assert ["b", "b-1", "draining", "1", "4", "2", "h", "1", "min", "1.0"] in lines
    assert ["a", "gpu", "llamacpp", "ready", "4", "4"] in lines
    assert ["b", "ears", "whisper", "failed", "0", "0", "refused", "[Errno", "111]"] in lines


def test_models_add_up_over_the_workers() -> None:
    row = ["qwen", "interactive", "2", "8", "5", "4", "5", "0.2", "s", "1", "3"]
    assert row in [[cell.replace("0.3", "0.2") for cell in line] for line in shown(whole())]


def test_a_model_that_nobody_serves_still_waits() -> None:
    row = ["gone", "batch", "none", "0", "0", "2", "0", "2", "h", "5", "min", "0", "0"]
    assert row in shown(whole())


def test_a_model_without_a_queue_is_shown() -> None:
    found = shown(Survey("u", "v", (), (card("a-1", "a", 0),), (), {}))
    assert ["qwen", "interactive", "1", "4", "0", "0", "0", "–", "0", "0"] in found


def test_dead_letters_lead_to_the_doctor() -> None:
    said = " ".join(word for line in shown(whole()) for word in line)
    assert "'headrace doctor' tells their errors" in said
    assert "doctor" not in " ".join(word for line in shown(EMPTY) for word in line)


def test_who_is_missing_is_told() -> None:
    said = " ".join(word for line in shown(EMPTY) for word in line)
    assert "start one with 'headrace worker'" in said
    assert "start one with 'headrace ingress'" in said
    assert "http://127.0.0.1:8080" in " ".join(word for line in shown(whole()) for word in line)


def test_as_json_it_is_whole() -> None:
    found = orjson.loads(status._json(whole()))
    assert found["cards"][0]["engines"][1]["reason"] == "refused [Errno 111]"
    assert found["queues"][1]["oldest"] == 0.25
    assert found["dead"] == {"qwen": 3}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-0.1, "0.0 s"),
        (0.26, "0.3 s"),
        (9.4, "9.4 s"),
        (42.4, "42 s"),
        (303, "5 min 3 s"),
        (7500, "2 h 5 min"),
        (273_700, "3 d 4 h"),
    ],
)
def test_spans(seconds: float, text: str) -> None:
    assert status.span(seconds) == text
