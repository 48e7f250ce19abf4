from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import subjects, topology
from schemas.nodes import MOST_MODELS
from schemas.settings import Jobs


def stream(name: str, **jobs: Any) -> dict[str, Any]:
    found = {config["name"]: config for config in topology.streams(Jobs(**jobs), 3)}
    return found[name]


def test_jobs_are_a_work_queue_that_refuses_what_is_too_much() -> None:
    jobs = stream(subjects.JOBS_STREAM, queue_depth=17)
    assert jobs["retention"] == "workqueue"
    assert (jobs["discard"], jobs["discard_new_per_subject"]) == ("new", True)
    assert jobs["max_msgs_per_subject"] == 17, "no tenant has more than all have"
    of_one = stream(subjects.JOBS_STREAM, queue_depth=17, tenant_depth=5)
    assert of_one["max_msgs_per_subject"] == 5
    assert (jobs["storage"], jobs["num_replicas"]) == ("file", 3)
    assert jobs["allow_msg_ttl"]


def test_the_jobs_of_many_models_have_consumers() -> None:
    """Without a word of it the broker takes 1,000 (three lanes a model), which one engine could
    use up for all."""
    most = stream(subjects.JOBS_STREAM)["max_consumers"]
    assert most > 3 * 10 * MOST_MODELS


def test_dead_letters_have_an_age_and_a_size() -> None:
    dead = stream(subjects.DEAD_STREAM, dead_age=60)
    assert dead["max_age"] == 60 * topology.NS
    assert dead["discard"] == "old"
    assert dead["max_bytes"] > 0


def matches(pattern: str, subject: str) -> bool:
    return bool(re.fullmatch(re.escape(pattern).replace(r"\*", r"[^.]+"), subject))


@given(st.text(st.characters(), min_size=1, max_size=40))
def test_every_model_has_its_place_in_the_streams(model: str) -> None:
    earlier, pattern = stream(subjects.JOBS_STREAM)["subjects"]
    (dead,) = stream(subjects.DEAD_STREAM)["subjects"]
    assert matches(pattern, subjects.jobs(model, "i", "acme"))
    assert matches(earlier, f"jobs.{subjects.encode(model)}.i3")
    assert matches(dead, subjects.dead(model))
    config = topology.consumer(model, "i", 3, 1)
    assert matches(config["filter_subject"], subjects.jobs(model, "i", "acme"))
    assert config["metadata"] == {"headrace.model": model, "headrace.lane": "i"}


def test_a_consumer_delivers_for_ever_by_priority() -> None:
    config = topology.consumer("m", "i", 2.5, 1)
    assert config["max_deliver"] == -1
    assert config["ack_wait"] == 2_500_000_000
    assert config["priority_policy"] == "prioritized"
    assert config["priority_groups"] == [subjects.GROUP]


def test_a_consumer_that_nobody_pulls_from_goes_and_that_of_the_webhook_stays() -> None:
    assert topology.consumer("m", "i", 3, 1)["inactive_threshold"] == topology.FORGET * topology.NS
    assert topology.consumer("m", "i", 3, 1, 5)["inactive_threshold"] == 5_000_000_000
    assert topology.consumer("m", "i", 3, 1, 0)["inactive_threshold"] == 0
    assert "inactive_threshold" not in topology.webhook(1)


@pytest.mark.parametrize(
    ("lane", "word"), [("i", "interactive"), ("b", "batch"), ("n-x", "pinned to x")]
)
def test_a_consumer_says_in_words_what_it_is(lane: str, word: str) -> None:
    assert topology.consumer("llama", lane, 3, 1)["description"] == f"llama ({word})"


def test_the_books_are_counters_that_nothing_leaves() -> None:
    books = topology.credits(3)
    assert books["allow_msg_counter"]
    assert books["deny_delete"]
    assert books["deny_purge"]
    assert books["retention"] == "limits"
    assert not any(name.startswith("max_") for name in books)
    assert books["duplicate_window"] == 2 * 3600 * topology.NS
    assert (books["storage"], books["num_replicas"]) == ("file", 3)


@given(st.text(st.characters(), min_size=1, max_size=40))
def test_every_account_has_its_counter(account: str) -> None:
    (pattern,) = topology.credits(1)["subjects"]
    assert matches(pattern, subjects.credits(account))
    assert subjects.recorded(subjects.credits(account)) == account
