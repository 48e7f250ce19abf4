"""What the broker tells, as the console's tables show it."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from deploy.console.pages import cluster, tables
from deploy.console.pages.cluster import Memory
from deploy.findings import Finding
from deploy.nodes.listing import Row
from deploy.survey import Survey
from schemas.jetstream.queues import Queue
from schemas.nodes import Card, EngineState, ServedModel
from schemas.waiting import Waiting

READY = EngineState("gpu", "llamacpp", "ready", 4, 1)
CARD = Card(
    holder="a.1", node="a", server="s", client=1, version="1", engines=(READY,),
    models=(ServedModel("qwen", "gpu", "llamacpp", 4, token_us=8000),), jobs=1, started=1000,
)  # fmt: skip
AGAIN = replace(CARD, models=(), engines=(replace(READY, state="starting", busy=0),))


def survey(*cards: Card, **more: object) -> Survey:
    return Survey("nats://b", "2", (), cards, (), {}, **more)  # type: ignore[arg-type]


def test_slots_are_busy_free_or_starting() -> None:
    memory = Memory()
    memory.learn([CARD], 0.0)
    (model,) = cluster.models(survey(CARD), memory)
    assert (model.name, model.busy, model.free, model.starting) == ("qwen", 1, 3, 0)
    memory.learn([AGAIN], 1.0)
    (model,) = cluster.models(survey(AGAIN), memory)
    assert (model.name, model.busy, model.free, model.starting) == ("qwen", 0, 0, 4)


def test_an_engine_that_starts_first_is_called_by_its_own_name() -> None:
    (model,) = cluster.models(survey(AGAIN), Memory())
    assert (model.name, model.starting) == ("(gpu on a)", 4)


def test_who_left_is_forgotten() -> None:
    memory = Memory()
    memory.learn([CARD], 0.0)
    memory.learn([], 1.0)
    assert memory.had("a", "gpu") == frozenset()


def test_a_model_that_nobody_serves_is_shown_as_such() -> None:
    queue = Queue("gone", "i", 2, 2, 0, 75.0, 0, False)
    found = cluster.models(replace(survey(), queues=(queue,)), Memory())
    (row,) = cluster.model_rows(found)
    assert row[0] == "gone"
    assert "nobody serves it" in row[1]
    assert row[2:4] == ("2", "1 min 15 s")


def test_queues_of_the_edge_make_the_same_lines() -> None:
    (model,) = cluster.of_queues(
        [{"model": "m", "slots": 2, "running": 3, "waiting": 1, "oldest_wait": 0.5}]
    )
    assert (model.busy, model.free, model.running, model.waiting) == (2, 0, 3, 1)


def test_nodes_have_a_row_for_each_engine_and_for_who_is_away() -> None:
    away = Row("b", "worker", "away", 900.0, "joined")
    failed = EngineState("ears", "whisper", "failed", 0, 0, "refused <b>")
    seen = survey(replace(CARD, engines=(READY, failed)), absent=(away,))
    first, second, third = cluster.node_rows(seen, Memory(), 1090.0)
    assert (first[0], first[2], first[5], first[6]) == (
        "a", "gpu (llamacpp)", "8 ms/token", "up for 1 min",
    )  # fmt: skip
    assert "refused &lt;b&gt;" in second[3]
    assert (third[0], third[6]) == ("b", "for 3 min")


def test_a_node_that_left_is_shown_for_a_while() -> None:
    memory = Memory()
    memory.learn([CARD], 1000.0)
    (row,) = cluster.node_rows(survey(), memory, 1012.0)
    assert row[0] == "a"
    assert "gone" in row[1]
    assert row[-1] == "for 12 s"
    assert [each[2] for each in cluster.node_rows(survey(CARD), memory, 1012.0)] != ["–"]
    memory.learn([], 1000.0 + cluster.GONE)
    assert list(cluster.node_rows(survey(), memory, 2000.0)) == []


def test_a_node_with_a_record_is_shown_once() -> None:
    memory = Memory()
    memory.learn([CARD], 1000.0)
    away = Row("a", "worker", "away", 1001.0, "joined")
    (row,) = cluster.node_rows(survey(absent=(away,)), memory, 1012.0)
    assert "away" in row[1]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (-1, "0 s"),
        (9.6, "10 s"),
        (59, "59 s"),
        (90, "1 min"),
        (7300, "2 h 1 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_ages_are_coarse(seconds: float, said: str) -> None:
    assert cluster.age(seconds) == said


def test_who_waits_is_told_by_tenant() -> None:
    seen = survey(waiting=(Waiting("qwen", "b", "acme", 3, 12.0),))
    assert list(cluster.queue_rows(seen)) == [("qwen", "batch", "acme", "3", "12 s")]


def test_the_whole_is_summed_up() -> None:
    found = cluster.totals(survey(CARD, AGAIN))
    assert (found.nodes, found.models, found.slots, found.busy) == (1, 1, 4, 1)


def test_tables_are_tables_and_texts_are_no_markup() -> None:
    made = tables.table("Models", ("name", ">n"), [("<script>", "1")] * (tables.MOST + 2))
    assert "<script>" not in made
    assert "and 2 more" in made
    found = ElementTree.fromstring(made[: made.index("</table>") + 8])
    assert len(found.findall("tbody/tr")) == tables.MOST
    assert found.findall("tbody/tr/td")[0].attrib["data-label"] == "n"


def test_many_slots_are_one_block() -> None:
    assert tables.bar(2, 1, 0).count("<i") == 3
    assert tables.bar(200, 56, 0).count("<i") == 2
    assert "2 busy, 1 free, 1 starting" in tables.bar(2, 1, 1)
    assert "no slots" in tables.bar(0, 0, 0)


def test_warnings_are_what_the_doctor_does_not_call_well() -> None:
    found = [Finding("ok", "fine"), Finding("warn", "<b>", "mend"), Finding("fail", "broken")]
    made = cluster.warnings(found)
    assert "fine" not in made
    assert '<li class="hd-warn">&lt;b&gt;<p>mend</p></li>' in made
    assert '<li class="hd-fail">broken</li>' in made
    assert "All is well" in cluster.warnings(found[:1])
    assert "Looking" in cluster.warnings(None)


def test_tiles_have_names_and_numbers() -> None:
    assert "<dt>Slots busy</dt><dd>1 <small>of 4</small></dd>" in cluster.tiles(survey(CARD))


def test_no_rows_are_said_in_words() -> None:
    assert "Nobody &lt;waits" in tables.filled("x", ("a",), [], "Nobody <waits")
