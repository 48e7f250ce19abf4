from __future__ import annotations

import pytest
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from schemas import metrics

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


def test_no_two_metrics_share_a_name() -> None:
    names = [family.name for metric in ALL.values() for family in metric.describe()]
    assert len(set(names)) == len(names) > 10
