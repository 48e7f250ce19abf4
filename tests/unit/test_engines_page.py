"""`docs/engines.md` names the test of each line: they are there, and each line has one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "engines.md"
NODE = re.compile(r"`(tests/[\w/.]+\.py)::(\w+)`")
LINES = {
    "errors",
    "errors with status 200",
    "how streams are spelt",
    "a fault of the request is a 4xx",
    "what asks for nothing, and histories",
    "an unknown model",
    "`usage`",
    "an answer that was begun elsewhere",
    "the first chunk of a chat",
    "thoughts",
    "a client that leaves",
    "queues",
    "while a request waits",
    "`n`",
    "`max_completion_tokens`",
    "`tools` and `tool_choice`",
    "schemas",
    "`model` and `id` of answers",
    "too long a prompt",
    "pictures by address",
    "log-probabilities",
    "`max_tokens: 0`",
    "fields that nobody has",
    "fields that clients require",
    "its own fields",
    "no answer, ever",
    "leaks",
    "rules of every worker",
}


def rows() -> list[list[str]]:
    """The cells of each row of its table, without the head."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip()[1:-1].split("|")] for line in lines[2:]]


def defined_in(path: Path) -> set[str]:
    """The test functions of a module, which need not be imported for that."""
    tree = ast.parse(path.read_text())
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return {node.name for node in tree.body if isinstance(node, kinds)}


def test_every_named_test_is_there() -> None:
    named = NODE.findall(PAGE.read_text())
    missing = [
        f"{path}::{name}"
        for path, name in named
        if not (ROOT / path).is_file() or name not in defined_in(ROOT / path)
    ]
    assert len(named) > 50
    assert not missing
    assert all(name.startswith("test_") for _, name in named)


def test_every_row_names_one() -> None:
    found = [row for row in rows() if not row[0].startswith("**")]
    assert all(len(row) == 4 for row in found)
    assert not [row for row in found if len(NODE.findall(row[3])) != 1]


def test_no_line_is_left_out() -> None:
    heads = [row[0].strip("*") for row in rows() if row[0].startswith("**")]
    assert len(heads) == len(set(heads))
    assert set(heads) == LINES
