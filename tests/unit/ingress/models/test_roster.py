from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from ingress.models.catalog import Catalog
from ingress.models.pins import Pin
from ingress.models.places import AWAY, DRAINED
from ingress.models.roster import Roster
from schemas import registry
from schemas.registry import Node
from tests.unit.fakes import FakeBus


@pytest.fixture
def catalog() -> Catalog:
    return Catalog(lambda: 0.0)


def said(roster: Roster, **records: bytes) -> None:
    """The stream has these."""
    found = enumerate(records.items(), 1)
    roster._records.last = {f"nodes.{name}": (place, data) for place, (name, data) in found}
    roster._records.last["invites.x"] = (99, b"{}")
    roster._changed()


def states(catalog: Catalog) -> dict[str, str]:
    return {each.node: each.state for each in catalog.nodes.places("m", Pin(globs=("*",)))}


def test_nodes_that_joined_are_known(bus: FakeBus, catalog: Catalog) -> None:
    roster, before = Roster(bus, catalog), catalog.edition
    drained = Node("b", state=registry.DRAINED).pack()
    said(roster, a=Node("a").pack(), b=drained, c=Node("c", state=registry.EVICTED).pack())
    assert states(catalog) == {"a": AWAY, "b": DRAINED}
    assert catalog.edition > before, "plans are made anew"
    said(roster, a=b"")
    assert states(catalog) == {}


def test_who_serves_no_models_is_no_node_to_pin_to(bus: FakeBus, catalog: Catalog) -> None:
    said(Roster(bus, catalog), a=Node("a", role=registry.INGRESS).pack())
    assert states(catalog) == {}


def test_what_cannot_be_read_is_told_once(bus: FakeBus, catalog: Catalog) -> None:
    roster = Roster(bus, catalog)
    with capture_logs() as lines:
        said(roster, a=b"?", b=Node("b").pack())
        said(roster, a=b"?", b=Node("b").pack())
    assert [line["event"] for line in lines] == ["roster.unreadable"]
    assert states(catalog) == {"b": AWAY}
