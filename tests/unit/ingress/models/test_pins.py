from __future__ import annotations

import pytest

from ingress.models import pins
from ingress.models.pins import Pin
from schemas.errors import InsufficientScope, InvalidRequest


def of(*said: tuple[str, str | bytes], globs: tuple[str, ...] = ()) -> Pin | None:
    raw = [
        (name.encode(), value if isinstance(value, bytes) else value.encode())
        for name, value in said
    ]
    return pins.of([(b"host", b"x"), *raw], globs)


@pytest.mark.parametrize("header", ["x-headrace-node", "x-wai-node"])
def test_a_request_names_a_node(header: str) -> None:
    assert of((header, "box-1")) == Pin("box-1")


def test_or_labels_all_of_which_are_wanted() -> None:
    pin = of(("x-headrace-node", "zone=home, gpu=4090"))
    assert pin == Pin(labels=("gpu=4090", "zone=home"))
    assert pin is not None
    assert pin.allows("a", ("gpu=4090", "os=linux", "zone=home"))
    assert not pin.allows("a", ("gpu=4090",))


def test_nearly_all_requests_go_to_any_node() -> None:
    assert of() is None


def test_both_headers_may_say_the_same() -> None:
    assert of(("x-headrace-node", "a"), ("x-wai-node", " a ")) == Pin("a")


def test_names_beyond_ascii_come_as_utf_8_or_latin_1() -> None:
    assert of(("x-headrace-node", "büro")) == of(("x-headrace-node", "büro".encode("latin-1")))


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ([("x-headrace-node", "a"), ("x-wai-node", "b")], "different things"),
        ([("x-headrace-node", "a"), ("x-headrace-node", "b")], "different things"),
        ([("x-headrace-node", "")], "the name of a node, or labels"),
        ([("x-headrace-node", "  ")], "the name of a node, or labels"),
        ([("x-headrace-node", "n" * 257)], "the name of a node, or labels"),
        ([("x-headrace-node", "a\x01b")], "the name of a node, or labels"),
        ([("x-headrace-node", "gpu=")], "a label is NAME=VALUE"),
        ([("x-headrace-node", "box-1,gpu=4090")], "a label is NAME=VALUE"),
    ],
)
def test_what_asks_for_no_node_is_refused(said: list[tuple[str, str]], why: str) -> None:
    with pytest.raises(InvalidRequest, match=why) as caught:
        of(*said)
    assert caught.value.param == "x-headrace-node"


def test_a_key_is_bound_to_nodes() -> None:
    pin = of(globs=("gpu-*", "box"))
    assert pin == Pin(globs=("gpu-*", "box"))
    assert pin is not None
    assert not pin.by_request
    assert [pin.allows(node, ()) for node in ("gpu-1", "box", "cpu-1")] == [True, True, False]


def test_labels_choose_among_the_nodes_of_its_key() -> None:
    pin = of(("x-wai-node", "gpu=4090"), globs=("gpu-*",))
    assert pin is not None
    assert pin.allows("gpu-1", ("gpu=4090",))
    assert not pin.allows("cpu-1", ("gpu=4090",))


def test_a_node_that_its_key_may_not_use_is_refused_whether_or_not_it_exists() -> None:
    with pytest.raises(InsufficientScope, match="This key may not use the node 'cpu-1'"):
        of(("x-headrace-node", "cpu-1"), globs=("gpu-*",))
