"""The tables of `docs/security.md` are those of the code."""

from __future__ import annotations

from pathlib import Path

from tests import rights_page
from tests.doubles.hostile import acts

PAGE = Path(__file__).parents[2] / "docs/security.md"


def test_the_page_is_up_to_date() -> None:
    before = PAGE.read_text()
    assert before == rights_page.page(before), "run: python -m tests.rights_page docs/security.md"


def test_each_act_stands_there() -> None:
    text = PAGE.read_text()
    for act in acts.DENIED:
        assert f"| {act.what} | " in text
        assert f"`{act.subject}` |" in text
