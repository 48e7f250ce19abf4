from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import nkeys, registry
from schemas.jobs import CodecError
from schemas.registry import Invite, Node, Order
from tests.unit.schemas.test_nodes import JSON

NAMES = st.text(min_size=1, max_size=registry.NAME).filter(
    lambda name: not registry.unfit_name(name)
)
KEYS = st.binary(min_size=32, max_size=32).map(lambda secret: nkeys.of(secret).public)
GLOBS = st.lists(st.from_regex(r"[a-z0-9*?.:-]{1,20}", fullmatch=True), max_size=3).map(tuple)
MODELS = st.lists(st.text(max_size=20), max_size=3).map(tuple)
MOMENTS = st.floats(0, 2**40)
ROLES = st.sampled_from(registry.ROLES)
NODES = st.builds(
    Node,
    name=NAMES,
    role=ROLES,
    nkey=KEYS,
    second_nkey=KEYS | st.just(""),
    models=GLOBS,
    state=st.sampled_from(registry.STATES),
    since=MOMENTS,
    invited=MOMENTS,
    joined=MOMENTS,
    served=MODELS,
    previous_nkey=KEYS | st.just(""),
    previous_until=MOMENTS,
)
INVITES = st.builds(
    Invite,
    id=st.from_regex(r"[a-z0-9]{1,20}", fullmatch=True),
    name=NAMES,
    verifier=KEYS,
    expires=MOMENTS,
    made=MOMENTS,
    role=ROLES,
    models=GLOBS,
)
KEY = nkeys.make().public


@given(NODES)
def test_a_node_comes_back_as_it_was(node: Node) -> None:
    assert registry.unpack(Node, node.pack()) == node


@given(INVITES)
def test_an_invitation_comes_back_as_it_was(invite: Invite) -> None:
    assert registry.unpack(Invite, invite.pack()) == invite


@given(st.builds(Order, name=NAMES, drained=st.booleans(), rotate=MOMENTS))
def test_an_order_comes_back_as_it_was(order: Order) -> None:
    assert registry.unpack(Order, order.pack()) == order


@given(NODES, st.data())
def test_a_record_that_was_cut_is_refused(node: Node, data: st.DataObject) -> None:
    packed = node.pack()
    with pytest.raises(CodecError):
        registry.unpack(Node, packed[: data.draw(st.integers(1, len(packed) - 1))])


@given(JSON)
def test_what_is_no_record_is_refused(said: object) -> None:
    with pytest.raises(CodecError):
        registry.unpack(Node, orjson.dumps(said))
    with pytest.raises(CodecError):
        registry.unpack(Invite, orjson.dumps(said))
    with pytest.raises(CodecError):
        registry.unpack(Order, orjson.dumps(said))


@given(NODES, st.sampled_from(list(Node.__dataclass_fields__)), JSON)
def test_a_field_of_another_kind_never_enters(node: Node, field: str, value: object) -> None:
    said = {**orjson.loads(node.pack()), field: value}
    try:
        found = registry.unpack(Node, orjson.dumps(said))
    except CodecError:
        return
    assert found is not None
    assert type(getattr(found, field)) is type(getattr(node, field))


def test_a_record_that_was_forgotten_is_none() -> None:
    assert registry.unpack(Node, b"") is None
    assert registry.unpack(Invite, b"") is None


def test_fields_of_later_releases_are_passed_over() -> None:
    said = {**orjson.loads(Node("gpu", nkey=KEY).pack()), "later": 1}
    assert registry.unpack(Node, orjson.dumps(said)) == Node("gpu", nkey=KEY)


@pytest.mark.parametrize("name", ["", " a", "a/b", "a,b", "a=b", "*", "a\nb", "x" * 65])
def test_a_name_that_no_node_can_have(name: str) -> None:
    assert registry.unfit_name(name)
    with pytest.raises(CodecError):
        registry.unpack(Node, Node(name, nkey=KEY).pack())


@pytest.mark.parametrize(
    "wrong",
    [
        Node("gpu", nkey="SUAAA"),
        Node("gpu", nkey=KEY, state="asleep"),
        Node("gpu", nkey=KEY, role="admin"),
        Node("gpu", nkey=KEY, models=("",)),
        Node("gpu", nkey=KEY, served=("m",) * 2049),
    ],
)
def test_what_a_node_cannot_be(wrong: Node) -> None:
    with pytest.raises(CodecError):
        registry.unpack(Node, wrong.pack())


def test_models_by_globs() -> None:
    node = Node("gpu", models=("llama*", "qwen"))
    assert node.allows("llama3.2:3b")
    assert node.allows("qwen")
    assert not node.allows("qwen2")
    assert Node("gpu").allows("anything")
