"""Tests that share what takes long to start run in one process, and the longest begin first."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import spread

ROOT = Path(__file__).parents[2]


def test_a_share_is_a_file_or_a_folder_of_those_that_share() -> None:
    assert spread.share("tests/unit/test_x.py::TestA::test_b[a::b]") == "tests/unit/test_x.py"
    folder = "tests/acceptance/surface/"
    assert spread.share(f"{folder}test_a.py::test_b") == spread.share(f"{folder}test_c.py::test_d")


def test_the_longest_come_first_and_all_else_stays_in_its_order() -> None:
    names = ["a.py::1", "b.py::1", "c.py::1", "b.py::2", "d.py::1"]
    items: list[Any] = [SimpleNamespace(nodeid=name) for name in names]
    found = spread.ordered(items, {"b.py": 2.0, "d.py": 30.0})
    assert [each.nodeid for each in found] == [
        "d.py::1",
        "b.py::1",
        "b.py::2",
        "a.py::1",
        "c.py::1",
    ]


@pytest.mark.parametrize("spread_by", ["loadfile", "load", "loadscope", "no"])
def test_what_belongs_together_stays_so_where_whole_files_do(spread_by: str) -> None:
    said = {"dist": spread_by, "tx": ["popen"]}
    config: Any = SimpleNamespace(getoption=said.get, getvalue=said.get)
    made = spread.pytest_xdist_make_scheduler(config, None)
    assert (made is not None) == (spread_by == "loadfile")
    if made is not None:
        name = "tests/acceptance/surface/test_a.py::test_b"
        assert made._split_scope(name) == spread.share(name)


def test_what_the_list_names_is_there() -> None:
    listed = spread.known(spread.LIST.read_text())
    assert listed
    assert [name for name in listed if not (ROOT / name).exists()] == []
    assert [name for name in listed if spread.share(f"{name}::x") != name] == []
    assert all((ROOT / folder).is_dir() for folder in spread.TOGETHER)
