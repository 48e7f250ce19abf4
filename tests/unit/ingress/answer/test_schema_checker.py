"""The schema checker and its child: what is JSON of which schema, and endless questions."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from ingress.answer import schema_checker
from ingress.answer.schema_checker import TOO_COMPLEX, SchemaChecker
from ingress.answer.schema_child import check, verdict
from schemas.api.json_format import JsonFormat

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
    ({"$ref": "http://example.org/x"}, "http://example.org/x"),
    ({"$ref": "file:///etc/passwd"}, "file:///etc/passwd"),
    ({"$ref": "#/$defs/x"}, "does not lead to a place"),
    ({"items": {"$ref": "other.json"}}, "other.json"),
    ({"$ref": "#"}, "without end"),
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
        ('{"a": "x"}', "'x' is not of type 'integer' (at a)"),
        ('{"a": 1, "b": 2}', "'b' was unexpected"),
        ("{}", "'a' is a required property"),
        ("[]", "not of type 'object'"),
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
    assert "'x' is not of type 'integer' (at [0])" in verdict(pair, '["x", "x"]')


def test_a_schema_may_refer_to_itself_but_not_for_ever() -> None:
    tree = {"type": "object", "properties": {"child": {"$ref": "#"}}}
    assert verdict(tree, '{"child": {"child": {}}}') == ""
    assert "object" in verdict(tree, '{"child": {"child": 5}}')
    endless = {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}
    assert "without end" in check({**endless, "$ref": "#/$defs/a"})


@pytest.fixture
async def checker() -> AsyncIterator[SchemaChecker]:
    made = SchemaChecker(patience=20)
    yield made
    await made.close()


async def misfit(checker: SchemaChecker, schema: dict[str, Any], *texts: str | None) -> str:
    return await checker.misfit(JsonFormat(schema, "p"), texts)


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
        assert await checker.misfit(JsonFormat(None, "p", is_object), [text]) == why
    assert "not JSON" in await checker.misfit(JsonFormat(None, "p"), ["{"])


async def test_the_child_says_the_same(checker: SchemaChecker) -> None:
    assert await checker.check(SCHEMA) == ""
    assert "nonsense" in await checker.check({"type": "nonsense"})
    assert await misfit(checker, SCHEMA, '{"a": 1}') == ""
    assert "integer" in await misfit(checker, SCHEMA, '{"a": "\u00fc\\n\u2028"}')


async def test_an_endless_question_is_given_up_and_the_next_one_answered(
    checker: SchemaChecker,
) -> None:
    await checker.check(SCHEMA)  # the child has started
    checker._patience = 0.3
    backtracking = {"type": "string", "pattern": "^(a+)+$"}
    assert await misfit(checker, backtracking, '"' + "a" * 60 + 'b"') == TOO_COMPLEX
    checker._patience = 20
    assert await misfit(checker, SCHEMA, '{"a": 1}') == ""


async def test_giving_up_is_not_remembered_and_answers_are(checker: SchemaChecker) -> None:
    layers = {f"d{i}": {"anyOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(40)}
    bomb = {"$ref": "#/$defs/d0", "$defs": {**layers, "d40": {"type": "integer"}}}
    await checker.check(SCHEMA)
    checker._patience = 0.3
    assert await checker.check(bomb) == TOO_COMPLEX
    checker._patience = 20
    assert await checker.check({"type": "nonsense"})
    await checker.close()
    checker._patience = 1e-9
    assert "nonsense" in await checker.check({"type": "nonsense"}), "without the child"
    assert await checker.check(bomb) == TOO_COMPLEX


async def test_a_child_that_starts_slowly_is_waited_for(
    checker: SchemaChecker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine that is busy: the question has done nothing to be given up for."""
    slow = tmp_path / "schema_child.py"
    slow.write_text(
        f"import sys, time; sys.path.insert(0, {str(Path.cwd())!r}); time.sleep(2)\n"
        "from ingress.answer import schema_child; schema_child.main()\n"
    )
    monkeypatch.setattr(schema_checker, "_PROGRAM", slow)
    checker._patience = 1.9
    assert await checker.check(SCHEMA) == ""


async def test_a_child_that_died_is_replaced(checker: SchemaChecker) -> None:
    await checker.check(SCHEMA)
    child = checker._child
    assert child is not None
    child.kill()
    await child.wait()
    assert "integer" in await misfit(checker, SCHEMA, '{"a": "x"}')


async def test_the_child_has_none_of_our_secrets(
    checker: SchemaChecker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_NATS__PASSWORD", "of-the-broker")
    await checker.check(SCHEMA)
    child = checker._child
    assert child is not None
    assert b"of-the-broker" not in Path(f"/proc/{child.pid}/environ").read_bytes()


def test_the_child_of_an_ingress_that_was_killed_ends_all_the_same() -> None:
    program = "from ingress.answer import schema_child as c; c.PATIENCE = 1; c.main()"
    question = orjson.dumps([{"pattern": "^(a+)+$"}, '"' + "a" * 60 + 'b"'])
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, input=question + b"\n", check=False, timeout=30)
    assert ended.returncode == -signal.SIGALRM
