"""The tables of `headrace status`."""

from __future__ import annotations

import io
import time
from dataclasses import replace

import orjson
import pytest
from rich.console import Console

from deploy import status
from deploy.survey import IngressSeen, Survey, addresses
from schemas.jetstream.queues import Queue
from schemas.nodes import Card, EngineState, ServedModel
from schemas.waiting import Waiting


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
        cards=(card("a.a1", "a", 4, metrics="127.0.0.1:9464"), card("b.b1", "b", 1, draining=True)),
        queues=(
            Queue("gone", "b", 2, 2, 0, 7500.0, 0, False),
            Queue("qwen", "i", 9, 4, 5, 0.25, 1, True),
        ),
        dead={"qwen": 3},
        waiting=(
            Waiting("gone", "b", "nightly", 2, 7500.0),
            Waiting("qwen", "i", "acme", 3, 12.0),
            Waiting("qwen", "i", "polite", 1, 0.2),
        ),
    )


EMPTY = Survey("nats://127.0.0.1:4222", "2.15.1", (), (), (), {})


def shown(survey: Survey) -> list[list[str]]:
    out = io.StringIO()
    Console(file=out, width=status.WIDTH, highlight=False).print(status.render(survey))
    return [line.split() for line in out.getvalue().splitlines()]


def test_workers_and_engines() -> None:
    lines = shown(whole())
    assert ["a", "a1", "serving", "4", "4", "2", "h", "1", "min", "1.0", "127.0.0.1:9464"] in lines
    assert ["b", "b1", "draining", "1", "4", "2", "h", "1", "min", "1.0", "–"] in lines
    assert ["a", "gpu", "llamacpp", "ready", "4", "4"] in lines
    assert ["b", "ears", "whisper", "failed", "0", "0"] in lines
    assert ["ears", "on", "b:", "refused", "[Errno", "111]"] in lines


def test_how_fast_engines_are_once_they_were_measured() -> None:
    models = (
        ServedModel("qwen", "gpu", "llamacpp", 4, token_us=12_500),
        ServedModel("small", "gpu", "llamacpp", 4, token_us=8_000),
        ServedModel("tiny.en", "ears", "whisper", 1, request_us=1_400_000),
    )
    survey = whole()
    measured = replace(survey.cards[0], models=models)
    lines = shown(replace(survey, cards=(measured, *survey.cards[1:])))
    assert ["a", "gpu", "llamacpp", "ready", "4", "4", "8", "ms/token"] in lines
    assert ["a", "ears", "whisper", "failed", "0", "0", "1.4", "s/request"] in lines
    assert ["b", "gpu", "llamacpp", "ready", "4", "1", "–"] in lines


def test_it_fits_80_columns_with_nothing_cut() -> None:
    survey, node = whole(), "the-machine-under-the-desk-in-the-office"
    card = replace(survey.cards[0], node=node, holder=f"{node}.3f2a9c1e")
    out = Console(width=80, record=True, file=io.StringIO())
    out.print(status.render(replace(survey, cards=(card,))))
    text = out.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    assert "3f2a9c1e" in text
    assert "127.0.0.1:9464" in text


def test_models_add_up_over_the_workers() -> None:
    row = ["qwen", "interactive", "2", "8", "5", "4", "5", "0.2", "s", "1", "3"]
    assert row in [[cell.replace("0.3", "0.2") for cell in line] for line in shown(whole())]


def test_a_model_that_nobody_serves_still_waits() -> None:
    row = ["gone", "batch", "none", "0", "0", "2", "0", "2", "h", "5", "min", "0", "0"]
    assert row in shown(whole())


def test_a_model_without_a_queue_is_shown() -> None:
    found = shown(Survey("u", "v", (), (card("a.a1", "a", 0),), (), {}))
    assert ["qwen", "interactive", "1", "4", "0", "0", "0", "–", "0", "0"] in found


def test_who_waits_is_shown_by_account() -> None:
    lines = shown(whole())
    assert ["gone", "batch", "nightly", "2", "2", "h", "5", "min"] in lines
    assert ["qwen", "interactive", "acme", "3", "12", "s"] in lines
    assert not any("account" in line for line in shown(EMPTY))


def test_the_table_of_accounts_has_80_columns_and_an_end() -> None:
    many = tuple(Waiting("m" * 40, "i", f"{n}" * 30, 1, 3.0) for n in range(status.ACCOUNTS + 5))
    out = io.StringIO()
    console = Console(file=out, width=80, highlight=False)
    survey = replace(whole(), waiting=many)
    console.print(status.table(status._ACCOUNT_COLUMNS, status._accounts(survey)))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert any("and 5 more" in line for line in lines)


def test_an_empty_batch_lane_is_not_shown() -> None:
    queues = (
        Queue("qwen", "b", 0, 0, 0, None, 0, True),
        Queue("qwen", "i", 0, 0, 0, None, 0, True),
    )
    found = [line[:2] for line in shown(replace(whole(), queues=queues)) if line[:1] == ["qwen"]]
    assert ["qwen", "interactive"] in found
    assert ["qwen", "batch"] not in found


def test_a_pinned_lane_is_shown_once_it_has_jobs_with_its_node_alone() -> None:
    queues = (
        Queue("qwen", "n-a", 3, 2, 1, 1.5, 0, True),
        Queue("qwen", "n-b", 0, 0, 0, None, 0, True),
    )
    found = shown(replace(whole(), queues=queues))
    assert ["qwen", "pinned", "to", "a", "1", "4", "4", "2", "1", "1.5", "s", "0", "3"] in found
    assert not any(line[:4] == ["qwen", "pinned", "to", "b"] for line in found)


def test_labels_are_shown_of_nodes_that_have_some() -> None:
    cards = (card("a.a1", "a", 0, labels=("gpu=4090",)), card("a-2", "a", 0, labels=("zone=home",)))
    found = shown(replace(whole(), cards=(*cards, card("b-1", "b", 0))))
    assert ["a", "gpu=4090", "zone=home"] in found
    assert ["b"] not in found
    assert ["Labels"] not in shown(whole())


@pytest.mark.parametrize("lane", ["i", "n-box-of-somebody-with-a-name-that-is-long"])
def test_the_table_of_models_is_whole_in_80_columns(lane: str) -> None:
    out = io.StringIO()
    queue = Queue("a-model-with-a-long-name", lane, 2000, 1000, 1000, 7500.0, 100, True)
    survey = replace(whole(), queues=(queue,))
    table = status._narrow(status.table(status._MODEL_COLUMNS, status._models(survey)))
    Console(file=out, width=80, highlight=False).print(table)
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in out.getvalue()
    assert any("1000" in line and "2 h 5 min" in line for line in lines)


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
    assert found["waiting"][1]["account"] == "acme"


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


def test_processes_of_one_ingress_are_one_line_with_their_number() -> None:
    alone = IngressSeen("in-0", "10.0.0.1:8080", "1.0")
    four = [IngressSeen(f"in-{n}", "0.0.0.0:8080", "1.0", "g1", f"{n}/4") for n in range(1, 5)]
    other = IngressSeen("in-9", "0.0.0.0:8080", "1.0", "g2", "1/2")
    assert addresses([alone, *four, other]) == [
        "http://10.0.0.1:8080",
        "http://0.0.0.0:8080 (4 processes)",
        "http://0.0.0.0:8080 (1 of 2 processes)",
    ]


def test_pages_of_metrics_are_found_as_prometheus_reads_it() -> None:
    seen = whole()
    both = replace(seen, ingresses=(*seen.ingresses, IngressSeen("in-2", "127.0.0.1:8080", "1.0")))
    assert status.pages(both) == [
        {"targets": ["127.0.0.1:8080"], "labels": {"role": "ingress", "node": ""}},
        {"targets": ["127.0.0.1:9464"], "labels": {"role": "worker", "node": "a"}},
    ]
