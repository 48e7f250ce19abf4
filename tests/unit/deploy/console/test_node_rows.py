from __future__ import annotations

import pytest

from deploy.console.pages import node_rows
from deploy.nodes.changes import DRAIN, EVICT, FORGET, UNDRAIN
from deploy.nodes.listing import AWAY, DRAINING, OWN, Row
from schemas import registry


def node(
    state: str = registry.ACTIVE, how: str = "joined", role: str = "worker", **more: object
) -> Row:
    return Row("box", role, state, 0.0, how, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("row", "may"),
    [
        (node(), (DRAIN, EVICT)),
        (node(how=OWN), (DRAIN,)),
        (node(registry.DRAINED), (UNDRAIN, EVICT)),
        (node(DRAINING), (UNDRAIN, EVICT)),
        (node(AWAY), (DRAIN, EVICT, FORGET)),
        (node(registry.EVICTED), (FORGET,)),
        (node("invited", "invited"), (FORGET,)),
        (node(role="ingress"), (EVICT,)),
    ],
)
def test_what_may_be_done_to_a_node(row: Row, may: tuple[str, ...]) -> None:
    assert node_rows.actions(row) == may


def test_an_invitation_is_withdrawn() -> None:
    (row,) = node_rows.table([node("invited", "invited", may=("a*",))])
    assert [each["label"] for each in row["actions"]] == ["Withdraw"]
    assert row["models"] == "(may: a*)"


def test_jobs_are_told_of_one_that_drains() -> None:
    (row,) = node_rows.table([node(DRAINING, jobs=2)])
    assert row["state"] == "draining (2 jobs)"


def test_many_are_cut_and_told() -> None:
    rows = [node()] * (node_rows.MOST + 3)
    assert len(node_rows.table(rows)) == node_rows.MOST
    assert node_rows.cut(rows) == "3 more are not shown."
    assert node_rows.cut(rows[:1]) == ""
