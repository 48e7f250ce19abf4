from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import nodes
from schemas.frames import Role
from schemas.jobs import CodecError
from schemas.nodes import Card, EngineState, Ignored, ServedModel, names_at
from tests.unit import fakes, version_1

TEXTS = st.text(max_size=20)
NAMES = st.text(min_size=1, max_size=20)
NUMBERS = st.integers(0, 2**53 - 1)
SLOTS = st.integers(0, 2**16)
TOKENS = st.from_regex(r"[A-Za-z0-9_,~=-]{1,40}", fullmatch=True)
CARDS = st.builds(
    Card,
    holder=st.builds("{}.{}".format, TOKENS, TOKENS),
    node=TEXTS,
    server=TEXTS,
    client=NUMBERS,
    version=TEXTS,
    draining=st.booleans(),
    engines=st.lists(
        st.builds(EngineState, TEXTS, TEXTS, TEXTS, SLOTS, SLOTS, TEXTS), max_size=3
    ).map(tuple),
    models=st.lists(
        st.builds(
            ServedModel,
            id=NAMES,
            engine=TEXTS,
            kind=TEXTS,
            slots=SLOTS,
            context=st.integers(0, 2**31 - 1),
            modalities=st.lists(TEXTS, max_size=2).map(tuple),
            features=st.lists(TEXTS, max_size=2).map(tuple),
            ignores=st.lists(
                st.builds(
                    Ignored,
                    TEXTS,
                    TEXTS,
                    st.lists(TEXTS, max_size=2).map(tuple),
                    st.lists(st.none() | TEXTS | NUMBERS, max_size=2).map(tuple),
                    TEXTS,
                    st.booleans(),
                ),
                max_size=2,
            ).map(tuple),
            knows=st.lists(TEXTS, max_size=2).map(tuple),
        ),
        max_size=3,
    ).map(tuple),
    jobs=NUMBERS,
    started=NUMBERS,
)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@given(CARDS)
def test_a_card_comes_back_as_it_was(card: Card) -> None:
    assert nodes.unpack(card.pack()) == card


@given(CARDS, st.data())
def test_a_card_that_was_cut_is_refused(card: Card, data: st.DataObject) -> None:
    packed = card.pack()
    with pytest.raises(CodecError):
        nodes.unpack(packed[: data.draw(st.integers(0, len(packed) - 1))])


@given(st.binary(max_size=200))
def test_random_bytes_are_no_card(data: bytes) -> None:
    with pytest.raises(CodecError):
        nodes.unpack(data)


@given(JSON, st.sampled_from([*Card.__dataclass_fields__, "serves.0", "engines.0"]))
def test_any_json_is_a_card_or_refused(value: Any, where: str) -> None:
    raw = orjson.loads(fakes.card("box.w", "m").pack())
    name, _, index = where.partition(".")
    if index:
        raw[name][0] = value
    else:
        raw[name] = value
    for data in (value, raw):
        try:
            found = nodes.unpack(orjson.dumps(data))
        except CodecError:
            continue
        assert isinstance(found, Card)


def test_a_card_of_version_1_is_read_as_one() -> None:
    """A fallback of that version is alive, and its reservations are its own."""
    card = nodes.unpack(version_1.CARD)
    assert (card.protocol, card.holder, card.role) == (1, "attic.w-old", Role.WORKER)
    assert [model.id for model in card.models] == ["old"]


def test_readers_of_version_1_count_on_no_model_of_ours() -> None:
    raw = orjson.loads(fakes.card("box.w", "m").pack())
    assert (raw["models"], raw["role"], raw["holder"]) == ([], "worker", "box.w")
    assert [model["id"] for model in raw["serves"]] == ["m"]


def test_fields_of_a_newer_worker_are_passed_over() -> None:
    card = fakes.card("box.w", "m")
    raw = orjson.loads(card.pack())
    raw["power"] = 9
    raw["serves"][0]["colour"] = "red"
    raw["engines"][0]["colour"] = "red"
    assert nodes.unpack(orjson.dumps(raw)) == card


WRONG_TYPES: list[tuple[str, str, Any]] = [
    ("", "holder", None),
    ("", "holder", ""),
    ("", "node", {}),
    ("", "started", "now"),
    ("", "draining", 1),
    ("serves", "id", 5),
    ("serves", "id", ""),
    ("serves", "slots", "many"),
    ("serves", "slots", 1.5),
    ("serves", "context", None),
    ("serves", "modalities", [1]),
    ("serves", "features", "chat"),
    ("serves", "fields", 7),
    ("fields", "ignores", [{"field": "n", "why": 1}]),
    ("fields", "knows", "chat n"),
    ("engines", "busy", "x"),
    # Out of bounds.
    ("", "holder", "w"),
    ("", "holder", "h" * 1025 + ".w"),
    ("", "holder", "h." + "w" * 257),
    ("", "holder", "a b.w"),
    ("", "holder", "a.b.c"),
    ("", "node", "n" * 257),
    ("", "started", -1),
    ("", "started", 2**53),
    ("", "jobs", True),
    ("serves", "id", "m" * 1025),
    ("serves", "id", "\U0001f600" * 200),
    ("serves", "slots", 2**63 - 1),
    ("serves", "slots", True),
    ("serves", "context", 2**31),
    ("serves", "features", ["f" * 257]),
    ("fields", "ignores", [{"field": "n", "why": "w" * 1025}]),
    ("engines", "reason", "r" * 1025),
    ("engines", "slots", 2**16 + 1),
]


def test_a_field_of_another_type_is_refused(subtests: pytest.Subtests) -> None:
    """It would fail much later, in each request that looks at all models."""
    for where, field, value in WRONG_TYPES:
        with subtests.test(f"{where!r:.60} {field!r:.60}"):
            raw = orjson.loads(fakes.card("box.w", "m").pack())
            (raw[where][0] if where else raw)[field] = value
            with pytest.raises(CodecError, match="not a card"):
                nodes.unpack(orjson.dumps(raw))


def test_a_card_of_more_than_a_megabyte_is_refused() -> None:
    with pytest.raises(CodecError, match="bytes are more than"):
        nodes.unpack(fakes.card("box.w", version="v" * 2**20).pack())


def test_a_card_of_thousands_of_models_is_refused() -> None:
    models = tuple(ServedModel(f"m{n}", "e", "ollama", 1) for n in range(2049))
    with pytest.raises(CodecError, match="models are more than"):
        nodes.unpack(fakes.card("box.w", models=models).pack())
    assert len(nodes.unpack(fakes.card("box.w", models=models[1:]).pack()).models) == 2048


def test_what_is_the_same_of_many_models_is_said_once() -> None:
    """It goes out each second, and the broker takes 2 MB: 30 models of Ollama had 217 kB."""
    ignores = tuple(Ignored(f"field_{number}", "x" * 60, ("chat",)) for number in range(60))
    models = tuple(ServedModel(f"m{n}", "e", "ollama", 1, ignores=ignores) for n in range(300))
    odd = ServedModel("odd", "e", "ollama", 1, ignores=ignores[1:], knows=("chat n",))
    card = fakes.card("box.w", models=(*models[:9], odd, *models[9:]))
    packed = card.pack()
    assert len(packed) < 100_000
    assert nodes.unpack(packed) == card


@pytest.mark.parametrize("name", ["holder", "serves", "engines", "client"])
def test_a_card_without_what_it_must_say_is_refused(name: str) -> None:
    raw = orjson.loads(fakes.card("box.w", "m").pack())
    del raw[name]
    with pytest.raises(CodecError):
        nodes.unpack(orjson.dumps(raw))


WANTED: list[tuple[str, tuple[Any, ...] | None, dict[str, Any], bool]] = [
    ("n", (1,), {"n": 2}, True),
    ("n", (1,), {"n": 1}, False),
    ("n", (1,), {"n": None}, False),
    ("n", (1,), {}, False),
    ("tools", None, {"tools": []}, False),
    ("tools", None, {"tools": [1]}, True),
    ("suffix", None, {"suffix": ""}, False),
    ("modalities", (["text"],), {"modalities": ["text"]}, False),
    ("modalities", (["text"],), {"modalities": ["text", "audio"]}, True),
    ("text.verbosity", None, {"text": {"verbosity": "low"}}, True),
    ("text.verbosity", None, {"text": {"format": 1}}, False),
    ("text.verbosity", None, {"text": "low"}, False),
    ("context_management", None, {"context_management": {"edits": []}}, False),
    ("context_management", None, {"context_management": {"edits": [1]}}, True),
    ("tool_choice", ({"type": "auto"},), {"tool_choice": {"type": "auto", "x": None}}, False),
    ("logit_bias", None, {"logit_bias": {"5": False}}, True),
    ("web_search_options", (), {"web_search_options": {}}, True),
]


def test_a_field_is_wanted_if_it_asks_for_something(subtests: pytest.Subtests) -> None:
    for field, unless, request_, wanted in WANTED:
        with subtests.test(f"{field!r:.60} {unless!r:.60}"):
            ignored = Ignored(field, "why") if unless is None else Ignored(field, "why", (), unless)
            assert ignored.wanted(request_) == wanted


@pytest.mark.parametrize(
    ("request_", "wanted"),
    [({"n": 2, "best_of": 2}, False), ({"n": 2, "best_of": 3}, True), ({"best_of": 2}, True)],
)
def test_a_field_may_say_the_same_as_another(request_: dict[str, Any], wanted: bool) -> None:
    model = ServedModel("m", "e", "k", 1, ignores=(Ignored("best_of", "x", (), (1,), "n"),))
    card = nodes.unpack(fakes.card("box.w", models=(model,)).pack())
    assert card.models[0].ignores[0].wanted(request_) == wanted


@given(st.lists(TEXTS, max_size=3))
def test_whatever_an_engine_says_it_knows_can_be_asked(knows: list[str]) -> None:
    assert names_at(knows, "chat") is None or knows


def test_what_an_engine_knows_is_said_for_several_endpoints_at_once() -> None:
    knows = ("chat,completions a b", "chat c", "embeddings")
    assert names_at(knows, "chat") == frozenset("abc")
    assert names_at(knows, "completions") == frozenset("ab")
    assert names_at(knows, "embeddings") == frozenset()
    assert names_at(knows, "rerank") is None


def test_a_card_with_labels_without_end_is_refused() -> None:
    labels = tuple(f"a{number}=1" for number in range(33))
    with pytest.raises(CodecError, match="more than 32 labels"):
        nodes.unpack(Card("w-1", "n", "S", 1, "1", labels=labels).pack())


FACTS = (Ignored("logit_bias", "it has none"), Ignored("user", "nobody asks", unless=("", 0)))
KNOWS = ("chat,completions grammar min_p",)


@pytest.fixture
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has just started."""
    nodes._KNOWN.clear()
    nodes._told.cache_clear()
    nodes._read_before.cache_clear()


def told(*, ignores: tuple[Ignored, ...] = FACTS, knows: tuple[str, ...] = KNOWS) -> Card:
    served = ServedModel("m", "e", "echo", 4, ignores=ignores, knows=knows)
    return fakes.card("w.1", engines=(), models=(served,))


def test_a_brief_card_is_what_the_whole_one_was(nothing_known: None) -> None:
    whole, brief = told().pack(), told().pack(whole=False)
    with pytest.raises(nodes.FieldsUnknown, match="was not told here"):
        nodes.unpack(brief)
    assert nodes.unpack(whole) == nodes.unpack(brief) == told()
    assert b"logit_bias" not in brief


def test_who_wants_no_facts_reads_a_brief_card_without_them(nothing_known: None) -> None:
    brief = told().pack(whole=False)
    card = nodes.heard("hb.w.1", brief, partly=True)
    assert [(model.id, model.ignores, model.knows) for model in card.models] == [("m", (), ())]
    nodes.unpack(told().pack())
    assert nodes.unpack(brief) == told()


def test_facts_of_one_worker_are_known_of_all_that_say_the_same(nothing_known: None) -> None:
    nodes.unpack(told().pack())
    other = fakes.card("x.2", engines=(), models=told().models)
    assert nodes.unpack(other.pack(whole=False)) == other


def test_nobody_says_what_a_digest_stands_for(nothing_known: None) -> None:
    """A card cannot have others' digests mean something else."""
    raw = orjson.loads(told().pack(whole=False))
    forged = {**raw, "fields": [{**raw["fields"][0], "ignores": [], "knows": ["lies"]}]}
    with pytest.raises(nodes.FieldsUnknown):
        nodes.unpack(orjson.dumps(forged))
    nodes.unpack(told(ignores=(), knows=("lies",)).pack())
    with pytest.raises(nodes.FieldsUnknown):
        nodes.unpack(told().pack(whole=False))


@pytest.mark.parametrize("same", [1, [], {}, "\x00" * 5000])
def test_a_digest_that_is_none_is_no_fault_of_the_process(nothing_known: None, same: Any) -> None:
    raw = {**orjson.loads(told().pack()), "fields": [{"same": same}]}
    with pytest.raises(CodecError) as fault:
        nodes.unpack(orjson.dumps(raw))
    assert len(str(fault.value)) < 1000


def test_what_is_kept_of_facts_has_bounds(nothing_known: None) -> None:
    for number in range(nodes.MOST_KNOWN + 9):
        nodes.unpack(told(knows=(f"chat f{number}",)).pack())
    assert len(nodes._KNOWN) == nodes.MOST_KNOWN
    long = told(knows=("x" * nodes.LONGEST_KNOWN,))
    assert nodes.unpack(long.pack(whole=False)) == long  # it stands in each card
    assert len(nodes._KNOWN) == nodes.MOST_KNOWN


@given(CARDS)
def test_a_brief_card_of_any_kind_is_the_whole_one(card: Card) -> None:
    assert nodes.unpack(card.pack()) == nodes.unpack(card.pack(whole=False))
