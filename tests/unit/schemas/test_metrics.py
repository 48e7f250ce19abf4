from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from schemas import metrics

PAGE = Path(__file__).parents[3] / "docs/metrics.md"
ALL = {k: v for k, v in vars(metrics).items() if isinstance(v, MetricWrapperBase)}


def test_a_metrics_name_follows_the_conventions(subtests: pytest.Subtests) -> None:
    for name, metric in ALL.items():
        with subtests.test(name):
            (family,) = metric.describe()
            assert family.name.startswith("headrace_")
            assert family.documentation.endswith(".")
            if isinstance(metric, Histogram):
                assert family.name.endswith("_seconds")
            else:
                assert isinstance(metric, Counter | Gauge)


def row(metric: MetricWrapperBase) -> str:
    (family,) = metric.describe()
    name = family.name + ("_total" if family.type == "counter" else "")
    labels = ", ".join(f"`{label}`" for label in metric._labelnames) or "–"
    return f"| `{name}` | {family.type} | {labels} | {family.documentation} |"


def test_the_page_lists_them_all() -> None:
    text = PAGE.read_text()
    table = re.findall(r"^\| `headrace_.*$", text, re.M)
    assert table == sorted(map(row, ALL.values()))


def test_no_two_metrics_share_a_name() -> None:
    names = [family.name for metric in ALL.values() for family in metric.describe()]
    assert len(set(names)) == len(names) > 10


def test_names_from_elsewhere_are_bounded() -> None:
    name = metrics.Names(2)
    assert [name("a"), name("b"), name("c"), name("a")] == ["a", "b", metrics.OTHER, "a"]
