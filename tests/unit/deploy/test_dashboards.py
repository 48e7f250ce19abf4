"""Queries of the dashboard and of the alerts name metrics and labels that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client import Histogram

from tests.unit.schemas.test_metrics import ALL

DEPLOY = Path(__file__).parents[3] / "deploy"
EVERYWHERE = {"instance", "job", "process", "le"}
_NAME = re.compile(r"\bheadrace_\w+")
_LABELS = re.compile(r"\bby \(([^)]*)\)|(\w+)\s*(?:=~|!~|!=|=)\s*\"")
_QUOTED = re.compile(r"\"[^\"]*\"")


def names() -> dict[str, set[str]]:
    """The labels of each name that a query may use."""
    found = dict[str, set[str]]()
    for metric in ALL.values():
        labels = set(metric._labelnames)
        (family,) = metric.describe()
        name = family.name + ("_total" if family.type == "counter" else "")
        ends = ("_bucket", "_sum", "_count") if isinstance(metric, Histogram) else ("",)
        found |= {name + end: labels for end in ends}
    return found


def queries() -> Iterator[str]:
    groups = yaml.safe_load((DEPLOY / "prometheus/alerts.yaml").read_text())["groups"]
    yield from (rule["expr"] for group in groups for rule in group["rules"])
    board = json.loads((DEPLOY / "grafana/dashboard.json").read_text())
    yield from (target["expr"] for panel in board["panels"] for target in panel["targets"])


@pytest.mark.parametrize("query", list(queries()))
def test_a_query_names_what_there_is(query: str) -> None:
    known, used = names(), _NAME.findall(_QUOTED.sub('""', query))
    assert set(used) <= known.keys()
    assert used or query.startswith("up{")
    labels = {
        label.strip()
        for several, one in _LABELS.findall(query)
        for label in (several or one).split(",")
    }
    assert labels <= EVERYWHERE.union(*(known[name] for name in used))
    assert query.count("(") == query.count(")")


def test_each_alert_says_what_is_wrong() -> None:
    groups = yaml.safe_load((DEPLOY / "prometheus/alerts.yaml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]


def test_the_rules_are_those_that_the_configuration_names() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yaml").read_text())
    assert config["rule_files"] == ["alerts.yaml"]
    assert [job["job_name"] for job in config["scrape_configs"]] == ["headrace"]
