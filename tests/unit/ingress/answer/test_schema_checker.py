"""The schema checker and its child: what is JSON of which schema, and endless questions."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest

from ingress.answer import schema_checker
from ingress.answer.schema_checker import TOO_COMPLEX, Asker, SchemaChecker
from ingress.answer.schema_child import check, verdict
from schemas.api.json_format import Finished, Formats, JsonFormat
from schemas.errors import DeadlineExceeded, QueueFull

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"a": {"type": "integer"}},
    "required": ["a"],
    "additionalProperties": False,
}
DRAFT_7 = "http://json-schema.org/draft-07/schema#"


@pytest.mark.parametrize(
    "schema",
    [
        SCHEMA,
        {},
        {"$ref": "#/$defs/x", "$defs": {"x": {"type": "string"}}},
        {"properties": {"children": {"type": "array", "items": {"$ref": "#"}}}},
        {"$schema": DRAFT_7, "definitions": {"x": {}}, "items": {"$ref": "#/definitions/x"}},
        {"items": [{"type": "integer"}]},
        {"$id": "http://example.org/x", "$ref": "#/$defs/x", "$defs": {"x": {}}},
    ],
)
def test_good_schemas(schema: dict[str, Any]) -> None:
    assert check(schema) == ""


BAD: list[tuple[Any, str]] = [
    ([], "is an object"),
    ({"type": "nonsense"}, "nonsense"),
    ({"type": 5}, "5"),
    ({"pattern": "("}, "regex"),
    ({"required": "a"}, "required"),
    ({"patternProperties": 5}, "patternProperties"),
    ({"$ref": "http://example.org/x"}, "http://example.org/x"),
    ({"$ref": "file:///etc/passwd"}, "file:///etc/passwd"),
    ({"$ref": "#/$defs/x"}, "does not lead to a place"),
    ({"items": {"$ref": "other.json"}}, "other.json"),
    ({"enum": ["x" * 9999], "type": "nonsense"}, "nonsense"),
]


def test_bad_schemas(subtests: pytest.Subtests) -> None:
    for schema, words in BAD:
        with subtests.test(f"{schema!r:.60} {words!r:.60}"):
            why = check(schema)
            assert words in why
            assert len(why) < 500


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1}', ""),
        (' {"a":1}\n', ""),
        ('{"a": "x"}', '"x" is not of type "integer" (at a)'),
        ('{"a": 1, "b": 2}', "'b' was unexpected"),
        ("{}", '"a" is a required property'),
        ("[]", 'not of type "object"'),
        ("{", "it is not JSON"),
        ("", "it is not JSON"),
        ('{"a": NaN}', "it is not JSON"),
    ],
)
def test_verdicts(text: str, words: str) -> None:
    why = verdict(SCHEMA, text)
    assert words in why
    assert bool(words) == bool(why)


def test_a_tuple_of_older_drafts_is_one() -> None:
    pair = {"type": "array", "items": [{"type": "integer"}, {"type": "string"}]}
    assert verdict(pair, '[1, "x"]') == ""
    assert '"x" is not of type "integer" (at [0])' in verdict(pair, '["x", "x"]')


def test_an_exclusive_bound_may_be_true_as_in_draft_4() -> None:
    above = {"type": "integer", "minimum": 3, "exclusiveMinimum": True}
    assert verdict(above, "4") == ""
    assert "3 is less than or equal to the minimum of 3" in verdict(above, "3")


def test_a_schema_may_refer_to_itself() -> None:
    tree = {"type": "object", "properties": {"child": {"$ref": "#"}}}
    assert verdict(tree, '{"child": {"child": {}}}') == ""
    assert "object" in verdict(tree, '{"child": {"child": 5}}')
    endless = {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}
    assert check({**endless, "$ref": "#/$defs/a"}) == ""


def test_a_choice_that_nothing_fits_is_told_of_where_it_fits_best() -> None:
    either = {"anyOf": [{"properties": {"a": {"type": "integer"}}}, {"type": "array"}]}
    assert verdict(either, '{"a": "x"}') == '"x" is not of type "integer" (at a)'
    assert "anyOf" in verdict({"anyOf": [{"type": "integer"}, {"type": "array"}]}, '"x"')


PLACES: dict[str, dict[str, Any]] = {
    "root": {"properties": {"a": {"$ref": "#"}}, "type": "object"},
    "escaped": {"$defs": {"a/b~c d": {"type": "object"}}, "$ref": "#/$defs/a~1b~0c%20d"},
    "anchor": {"$defs": {"x": {"$anchor": "here", "type": "object"}}, "$ref": "#here"},
    "own name": {"$id": "http://example.org/x", "$ref": "#/$defs/x", "$defs": {"x": {**SCHEMA}}},
    "list": {"$ref": "#/allOf/0", "allOf": [{"type": "object"}]},
}


@pytest.mark.parametrize("place", PLACES)
async def test_references_lead_to_every_place(place: str, checker: SchemaChecker) -> None:
    schema = PLACES[place]
    assert await checker.check(schema) == ""
    assert await misfit(checker, schema, '{"a": 1}' if place != "root" else '{"a": {}}') == ""
    assert "object" in await misfit(checker, schema, "[]")


PATTERNS: list[tuple[str, str, str]] = [
    (r"^\d+$", "12", "\u0661"),
    (r"\w\s\w", "a b", "\u00e9 b"),
    (r"^\p{L}+$", "\u00e9a", "1"),
    (r"^\p{Script=Greek}$", "\u03b1", "a"),
    (r"^(?<year>\d{4})-(?<month>\d\d)$", "2024-05", "2024"),
    (r"^(?<a>.)(x)\k<a>$", "axa", "axb"),
    (r"^(?P<a>x)$", "x", "y"),
    (r"^(?=.*\d)(?!x).{2,}$", "a1", "x1"),
    (r"(?<=a)b", "ab", "b"),
    (r"^(a|b)\1$", "aa", "ab"),
    (r"^[^]$", "\n", ""),
    (r"^a[]?$", "a", "ab"),
    (r"^\0[\b]$", "\0\b", "0b"),
    (r"^\ud83d\ude00$", "\U0001f600", "\ufffd"),
    (r"^[[^]\/$", "[/", "a/"),
    (r"^.$", "a", "\u2028"),
    (r"^a$", "a", "a\n"),
]


@pytest.mark.parametrize(("pattern", "good", "bad"), PATTERNS)
async def test_patterns_are_those_of_ecma(
    pattern: str, good: str, bad: str, checker: SchemaChecker
) -> None:
    named = {"patternProperties": {pattern: {}}, "additionalProperties": False}
    value: tuple[dict[str, Any], Any, Any] = {"type": "string", "pattern": pattern}, good, bad
    for schema, fits, does_not in (value, (named, {good: 1}, {bad: 1})):
        assert await checker.check(schema) == ""
        assert await misfit(checker, schema, orjson.dumps(fits).decode()) == ""
        assert await misfit(checker, schema, orjson.dumps(does_not).decode())


@pytest.fixture
async def checker() -> AsyncIterator[SchemaChecker]:
    made = SchemaChecker(patience=20)
    yield made
    await made.close()


async def misfit(checker: SchemaChecker, schema: dict[str, Any], *texts: str | None) -> str:
    return await checker.misfit(Formats(JsonFormat(schema, "p")), map(Finished, texts))


async def test_the_first_text_that_does_not_fit_is_told_of(checker: SchemaChecker) -> None:
    assert await misfit(checker, SCHEMA) == ""
    fits = '{"a": 1}'
    assert await misfit(checker, SCHEMA, fits, fits) == ""
    assert "integer" in await misfit(checker, SCHEMA, fits, '{"a": "x"}', "no JSON")
    assert "too long" in await misfit(checker, SCHEMA, fits, None)


async def test_json_without_a_schema(checker: SchemaChecker) -> None:
    for text, is_object, why in [
        ('{"a":1}', True, ""),
        ("[1]", True, "it is not a JSON object"),
        ("[1]", False, ""),
    ]:
        form = Formats(JsonFormat(None, "p", is_object))
        assert await checker.misfit(form, [Finished(text)]) == why
    assert "not JSON" in await checker.misfit(Formats(JsonFormat(None, "p")), [Finished("{")])


async def test_calls_are_held_against_what_their_tools_say(checker: SchemaChecker) -> None:
    tools = {"f": JsonFormat(SCHEMA, "t0"), "g": JsonFormat({"type": "nonsense"}, "t1")}
    assert await checker.fault_of(Formats(None, {"f": tools["f"]})) == ("", "")
    param, why = await checker.fault_of(Formats(None, tools))
    assert (param, "nonsense" in why) == ("t1", True)
    bad = Finished('{"a": "x"}', "f")
    for parts, expected in (
        ([Finished("no JSON"), Finished("no JSON", "h"), Finished('{"a": 1}', "f")], ""),
        ([bad], """the arguments of 'f': "x" is not of type "integer" (at a)"""),
    ):
        assert await checker.misfit(Formats(None, tools), parts) == expected


async def test_the_child_says_the_same(checker: SchemaChecker) -> None:
    assert await checker.check(SCHEMA) == ""
    assert "nonsense" in await checker.check({"type": "nonsense"})
    assert await misfit(checker, SCHEMA, '{"a": 1}') == ""
    assert "integer" in await misfit(checker, SCHEMA, '{"a": "\u00fc\\n\u2028"}')


TWICE = {"properties": {"a": {"$ref": "#"}}, "required": ["b"]}
BRANCHING: dict[str, Any] = {"anyOf": [TWICE, TWICE]}
"""At each level a text is looked at twice as often as at the one above."""
NESTED = '{"a":' * 60 + "1" + "}" * 60
LAYERS = {f"d{i}": {"anyOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(40)}
LAYERED = {"$ref": "#/$defs/d0", "$defs": {**LAYERS, "d40": {"type": "integer"}}}
"""Each layer is looked at twice as often as the one above, which takes time and no memory."""


async def test_an_endless_question_is_given_up_and_the_next_one_answered(
    checker: SchemaChecker,
) -> None:
    await checker.check(BRANCHING)  # the child has started
    checker._patience = 0.3
    assert await misfit(checker, BRANCHING, NESTED) == TOO_COMPLEX
    checker._patience = 20
    assert await misfit(checker, SCHEMA, '{"a": "x"}')


async def test_what_is_light_needs_no_child_while_that_is_held_up(checker: SchemaChecker) -> None:
    await checker.check(BRANCHING)
    checker._patience = 3600
    held_up = asyncio.create_task(misfit(checker, BRANCHING, NESTED))
    while checker._idle:
        await asyncio.sleep(0)
    light = {"pattern": "^(a+)+$"}
    assert await checker.check(SCHEMA) == await checker.check(light) == ""
    assert await misfit(checker, SCHEMA, '{"a": 1}') == ""
    assert await misfit(checker, light, '"' + "a" * 10_000 + '"') == ""
    assert not held_up.done()
    held_up.cancel()


async def test_answers_are_remembered_and_giving_up_for_a_while(
    checker: SchemaChecker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await checker.check(BRANCHING)
    checker._patience = 0.3
    assert await checker.check(LAYERED) == TOO_COMPLEX
    checker._patience = 20
    assert "nonsense" in await checker.check({"type": "nonsense"})
    assert await checker.check(LAYERED) == TOO_COMPLEX, "at once: in 20 s this test would be over"
    await checker.close()
    checker._patience = 1e-9
    assert "nonsense" in await checker.check({"type": "nonsense"}), "without a child"
    clock = time.monotonic() + schema_checker.REMEMBERED
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    assert not checker._is_given_up(sha256(orjson.dumps([LAYERED])).digest())


async def test_one_key_waits_for_itself_alone(checker: SchemaChecker) -> None:
    """And for no longer than its request may take."""
    await checker.check(BRANCHING)
    checker._patience = 3600
    ill = Asker("ill")
    bombs = [asyncio.create_task(checker.check({**LAYERED, "title": t}, ill)) for t in "abc"]
    while checker._idle:
        await asyncio.sleep(0)
    assert "nonsense" in await checker.check({"type": "nonsense"}, Asker("well"))
    soon = Asker("ill", asyncio.get_running_loop().time() + 0.01)
    with pytest.raises(DeadlineExceeded):
        await checker.check({"type": "other"}, soon)
    assert await checker.misfit(Formats(JsonFormat({"type": "x"}, "p")), [Finished("1")], soon)
    assert not any(bomb.done() for bomb in bombs)
    for bomb in bombs:
        bomb.cancel()
    await asyncio.gather(*bombs, return_exceptions=True)


async def test_more_questions_than_may_wait_are_refused(checker: SchemaChecker) -> None:
    await checker.check(BRANCHING)
    checker._patience = 3600
    several = range(1 + schema_checker.WAITING)
    bombs = [asyncio.create_task(checker.check({**LAYERED, "title": n})) for n in several]
    while checker._idle:
        await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        await checker.check({"type": "nonsense"})
    for bomb in bombs:
        bomb.cancel()
    await asyncio.gather(*bombs, return_exceptions=True)


async def test_a_child_that_starts_slowly_is_waited_for(
    checker: SchemaChecker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine that is busy: the question has done nothing to be given up for."""
    slow = tmp_path / "slow.py"
    slow.write_text(
        "import time; time.sleep(2)\nfrom ingress.answer import schema_child; schema_child.main()\n"
    )
    monkeypatch.setattr(schema_checker, "_COMMAND", (sys.executable, "-P", str(slow)))
    checker._patience = 1.9
    assert await checker.check({"properties": {"a": {"$ref": "#"}}}) == ""


async def test_a_child_that_died_is_replaced(checker: SchemaChecker) -> None:
    await checker.check(BRANCHING)
    child = checker._idle[0]._process
    assert child is not None
    child.kill()
    await child.wait()
    assert "integer" in await misfit(checker, SCHEMA, '{"a": "x"}')


async def test_the_child_has_none_of_our_secrets(
    checker: SchemaChecker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_NATS__PASSWORD", "of-the-broker")
    await checker.check(BRANCHING)
    child = checker._idle[0]._process
    assert child is not None
    assert b"of-the-broker" not in Path(f"/proc/{child.pid}/environ").read_bytes()


def test_the_child_of_an_ingress_that_was_killed_ends_all_the_same() -> None:
    program = "from ingress.answer import schema_child as c; c.PATIENCE = 1; c.main()"
    question = orjson.dumps([LAYERED])
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, input=question + b"\n", check=False, timeout=30)
    assert ended.returncode == -signal.SIGALRM
