from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas import alerts
from schemas.alerts import Alert, Budget
from schemas.jobs import CodecError
from schemas.settings import Alerts

TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
AMOUNTS = st.integers(0, 2**53)
BUDGET = Budget("credits", "acme", "", "grant 3", 80, 100, "micro")
BUDGETS = st.builds(Budget, *[TEXTS] * 4, AMOUNTS, AMOUNTS, TEXTS)


@given(st.builds(Alert, BUDGETS, st.integers(1, 100), st.floats(0, 1e10)))
def test_an_alert_comes_back_as_it_was(alert: Alert) -> None:
    assert alerts.unpack(alert.pack()) == alert


def test_later_releases_may_say_more() -> None:
    alert = Alert(BUDGET, 80, 1.0)
    said = orjson.loads(alert.pack())
    said["more"] = said["budget"]["more"] = 1
    assert alerts.unpack(orjson.dumps(said)) == alert


@pytest.mark.parametrize(
    "data",
    [b"", b"1", b"{}", b'{"budget":1}', Alert(BUDGET, 80, 1.0).pack().replace(b"80", b'"8"')],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        alerts.unpack(data)


def test_an_id_is_one_of_a_threshold_and_a_period() -> None:
    known = Alert(BUDGET, 80, 1.0)
    assert Alert(replace(BUDGET, used=90), 80, 2.0).id == known.id
    changes: Any = (
        {"name": "monthly_tokens"},
        {"account": "b"},
        {"key": "k"},
        {"period": "grant 4"},
    )
    others = [replace(known, budget=replace(BUDGET, **change)).id for change in changes]
    others.append(replace(known, threshold=100).id)
    assert len({known.id, *others}) == 6


def test_a_budget_of_nothing_is_used_up() -> None:
    assert BUDGET.share == 80.0
    assert replace(BUDGET, used=0, of=0).share == 100.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "ftp://host/x"},
        {"url": "http://user:pw@host/x"},
        {"url": "host/x"},
        {"url": "http://host/a b"},
        {"thresholds": []},
        {"thresholds": [0]},
        {"thresholds": [101]},
        {"secret": "a", "secret_file": "b"},
        {"timeout": 0.5},
    ],
)
def test_wrong_settings_are_refused_without_showing_them(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="1 validation error") as caught:
        Alerts.model_validate(wrong)
    assert "pw@" not in str(caught.value.errors(include_input=False))


def test_settings_are_put_in_order_and_masked() -> None:
    found = Alerts.model_validate({"url": "https://h/x?t=1", "thresholds": [100, 50, 50]})
    assert found.thresholds == [50, 100]
    assert "//h" not in repr(found)
