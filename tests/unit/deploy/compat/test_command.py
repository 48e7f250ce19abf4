"""How `headrace compat` prints a table."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from deploy.compat import command
from deploy.compat.command import Shape
from deploy.compat.probes import ROWS
from deploy.configure import Where
from deploy.edge import NoEdge

PAGE = Path(__file__).parents[4] / "docs" / "compat.md"


def cell(answer: str, reason: str) -> dict[str, str]:
    return {"answer": answer, "reason": reason}


def found(**cells: dict[str, str]) -> dict[str, Any]:
    """Two models; `cells` by row: of the model that hears, the other one can do everything."""
    return {
        "version": "1.2",
        "created": 1795390319,
        "models": [
            {"id": "mill_1", "engines": ["llamacpp", "vllm"], "nodes": ["a"]},
            {"id": "ears", "engines": ["whisper"], "nodes": ["a"]},
        ],
        "rows": [
            {
                "id": name,
                "title": f"{name} | row",
                "proof": f"{name} happens",
                "cells": {"mill_1": cell("yes", "seen"), "ears": given},
            }
            for name, given in cells.items()
        ],
    }


DEAF = cell("no", "400 unsupported: `mill_1` <has> no ears")
TABLE = found(chat=DEAF, stop=DEAF, seed=cell("partial", "twice of three"), keys=cell("yes", "k"))


def shown(table: dict[str, Any]) -> str:
    out = io.StringIO()
    Console(file=out, width=120).print(command.render(table))
    return out.getvalue()


def test_as_a_table() -> None:
    lines = [line.split() for line in shown(TABLE).splitlines()]
    assert ["chat", "|", "row", "yes", "no", "1"] in lines
    assert ["stop", "|", "row", "yes", "no", "1"] in lines
    assert ["seed", "|", "row", "yes", "partial", "2"] in lines
    assert ["keys", "|", "row", "yes", "yes"] in lines
    assert ["llamacpp,", "vllm", "whisper"] in lines
    assert "  1  400 unsupported: `mill_1` <has> no ears" in shown(TABLE)
    assert "  2  twice of three" in shown(TABLE)


async def test_it_is_shown_in_the_shape_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fetched(address: str, key: str, model: str | None) -> dict[str, Any]:
        assert (address, key, model) == ("http://a:1", "sk-x", "mill_1")
        return TABLE

    monkeypatch.setattr(command, "fetch", fetched)
    shapes: dict[Shape, str] = {
        "table": "What was seen",
        "markdown": "| row |",
        "json": '{"version":',
    }
    for shape, part in shapes.items():
        await command.show(Where(tmp_path), "http://a:1", "sk-x", "mill_1", shape)
        assert part in capsys.readouterr().out


def test_a_table_of_nobody_says_what_to_do() -> None:
    assert "start a worker with 'headrace worker'" in shown({"models": [], "rows": []})


def test_as_markdown() -> None:
    lines = command.markdown(TABLE).splitlines()
    assert lines[:2] == ["Seen by Headrace 1.2 on 2026-11-22, 23:31 UTC.", ""]
    assert lines[2:8] == [
        "| row | mill\\_1 (llamacpp, vllm) | ears (whisper) |",
        "| --- | --- | --- |",
        "| chat \\| row | yes | no (1) |",
        "| stop \\| row | yes | no (1) |",
        "| seed \\| row | yes | partial (2) |",
        "| keys \\| row | yes | yes |",
    ]
    assert "1. 400 unsupported: \\`mill\\_1\\` \\<has> no ears" in lines
    assert "2. twice of three" in lines
    assert "- **keys \\| row**: keys happens." in lines


def test_as_markdown_without_a_no() -> None:
    assert "Why not" not in command.markdown(found(keys=cell("yes", "k")))


async def test_nobody_at_the_address() -> None:
    with pytest.raises(NoEdge, match=r"http://127.0.0.1:9: .* Name an ingress by --url"):
        await command.fetch("http://127.0.0.1:9", "sk-x", None)


def test_what_a_refusal_says() -> None:
    body = b'{"error": {"message": "No such key."}}'
    assert command._told("http://a:1", 401, body) == "http://a:1: 401: No such key."
    assert "no Headrace of this version" in command._told("http://a:1", 404, b"<html>")


def test_the_page_has_the_rows_of_the_code() -> None:
    lines = PAGE.read_text().splitlines()
    table = [line for line in lines if line.startswith("| ")]
    titles = [line.split(" | ")[0].removeprefix("| ") for line in table[2:]]
    assert titles == [command._escaped(row.title) for row in ROWS]
    proofs = [
        f"- **{command._escaped(row.title)}**: {command._escaped(row.proof)}." for row in ROWS
    ]
    assert [line for line in lines if line.startswith("- **")] == proofs


def test_every_no_of_the_page_has_a_reason() -> None:
    text = PAGE.read_text()
    for line in text.splitlines():
        for word in line.split(" | ")[1:] if line.startswith("| ") else ():
            bare = word.removesuffix(" |")
            if bare.startswith(("no", "partial")):
                number = bare.partition("(")[2].removesuffix(")")
                assert f"\n{number}. " in text, line
