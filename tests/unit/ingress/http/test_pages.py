"""Pages of metrics of several processes as one."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ingress.http.pages import merged


def page(count: int) -> bytes:
    registry = CollectorRegistry()
    Counter("asked_total", "All.", ("model",), registry=registry).labels('a "b" {c}').inc(count)
    Gauge("here", "Now.", registry=registry).set(count)
    Histogram("wait_seconds", "Long.", registry=registry, buckets=(1,)).observe(count)
    return generate_latest(registry)


def test_each_sample_says_its_process_and_keeps_its_labels() -> None:
    found = merged({"1": page(3), "2": page(4)}).decode()
    families = {family.name: family for family in text_string_to_metric_families(found)}
    asked = [s for s in families["asked"].samples if s.name == "asked_total"]
    assert [(s.labels, s.value) for s in asked] == [
        ({"process": "1", "model": 'a "b" {c}'}, 3),
        ({"process": "2", "model": 'a "b" {c}'}, 4),
    ]
    assert [(s.labels["process"], s.value) for s in families["here"].samples] == [
        ("1", 3),
        ("2", 4),
    ]
    buckets = [s for s in families["wait_seconds"].samples if s.name.endswith("_bucket")]
    assert [(s.labels["process"], s.labels["le"]) for s in buckets] == [
        ("1", "1.0"), ("1", "+Inf"), ("2", "1.0"), ("2", "+Inf"),
    ]  # fmt: skip


def test_the_samples_of_one_metric_stand_together() -> None:
    lines = merged({"1": page(1), "2": page(2)}).decode().splitlines()
    helps = [line for line in lines if line.startswith("# HELP")]
    assert len(helps) == len(set(helps)) == len([x for x in lines if x.startswith("# TYPE")])


def test_a_process_that_did_not_answer_is_left_out() -> None:
    assert b'process="2"' not in merged({"1": page(1)})
    assert merged({}) == b""
