"""One table: what else knows an endpoint has it from there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingress.app import API
from schemas.api import endpoints
from schemas.api.endpoints import BY_PATH, BY_WORD, ENDPOINTS, VERSION

ROOT = Path(__file__).parents[4]
PACKAGES = ("schemas", "ingress", "workers", "fallback", "deploy")
OURS = ROOT / "schemas/api/endpoints.py"


def sources() -> list[Path]:
    return [file for name in PACKAGES for file in sorted((ROOT / name).rglob("*.py"))]


def strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """All but those that stand alone: docstrings."""
    alone = {id(each.value) for each in ast.walk(tree) if isinstance(each, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield node.lineno, node.value


def test_paths_and_words_are_said_once() -> None:
    assert len(BY_PATH) == len(BY_WORD) == len(ENDPOINTS)
    assert endpoints.CHAT in ENDPOINTS
    assert endpoints.WORDS[endpoints.CHAT.path] == "chat"
    assert endpoints.APIS[endpoints.CHAT.path] is endpoints.CHAT.api


def test_no_other_file_has_a_path_of_the_table() -> None:
    """Nor one without its version."""
    files, bare = sources(), {path.removeprefix(VERSION) for path in BY_PATH}
    paths = [re.compile(rf"{re.escape(path)}(?![a-z])") for path in BY_PATH]
    assert OURS in files
    told = [
        f"{file.relative_to(ROOT)}:{line}: {text!r}"
        for file in files
        if file != OURS
        for line, text in strings(ast.parse(file.read_text()))
        if text in bare or any(each.search(text) for each in paths)
    ]
    assert not told


def test_each_is_routed(subtests: pytest.Subtests) -> None:
    for endpoint in ENDPOINTS:
        with subtests.test(endpoint.word):
            routes = {path: verb for path, _, verb in API}
            assert routes[endpoint.path.removeprefix(VERSION)] == "POST"


def test_each_names_the_model_among_its_fields(subtests: pytest.Subtests) -> None:
    for endpoint in ENDPOINTS:
        with subtests.test(endpoint.word):
            assert "model" in endpoint.shape.names
            assert ("n" in endpoint.shape.names) or not endpoint.choices
