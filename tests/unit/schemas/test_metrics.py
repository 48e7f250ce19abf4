from __future__ import annotations

import pytest
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from schemas import metrics

ALL = {k: v for k, v in vars(metrics).items() if isinstance(v, MetricWrapperBase)}


@pytest.mark.parametrize("name", ALL)
def test_a_metrics_name_follows_the_conventions(name: str) -> None:
    (family,) = ALL[name].describe()
    assert family.name.startswith("headrace_")
    assert family.documentation.endswith(".")
    if isinstance(ALL[name], Histogram):
        assert family.name.endswith("_seconds")
    else:
        assert isinstance(ALL[name], Counter | Gauge)


def test_no_two_metrics_share_a_name() -> None:
    names = [family.name for metric in ALL.values() for family in metric.describe()]
    assert len(set(names)) == len(names) > 10
