from __future__ import annotations

from tests.bench import routers
from tests.bench.faults import Found


def test_each_router_is_in_the_extra_that_names_them() -> None:
    assert {each.package for each in routers.ROUTERS.values()} == set(routers.declared())


def test_what_was_found_is_said_in_a_line() -> None:
    found = Found(whole=9, streams=12, struck=6, told=1, hung=2, gaps=[0.1, 0.2, 0.3])
    assert found.said() == (
        "whole 9 of 12 (6 struck); broken 1, of them told 1; hung over 25 s: 2; "
        "gap p50 0.20 s, p95 0.30 s, of 3"
    )
    found = Found(failed=1, asked=50, added=[0.01] * 50, ratios=[1.0, 1.25])
    assert found.said() == (
        "failed 1 of 50; added ms: p50 10, p95 10, p99 10, most 10; times ideal: 1.00, 1.25"
    )
