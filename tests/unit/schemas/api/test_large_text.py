"""What a large text is, is known without what it stands for."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from schemas.api.large_text import sign_of as sign
from tests.unit.schemas.api.test_piecewise import values


@given(values, st.integers(0, 400))
def test_how_a_text_begins_is_known_without_it(value: Any, cut: int) -> None:
    text = orjson.dumps([value])
    assert sign(text) == "["
    assert sign(b' {"a":%b}' % text) == "{"
    assert sign(text[: cut % len(text)]) == ""
