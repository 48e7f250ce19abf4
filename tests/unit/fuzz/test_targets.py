"""What is fuzzed by atheris is taken as it is, and nothing is left out."""

from __future__ import annotations

import pytest

from tests.fuzz.targets import TARGETS
from tests.unit.schemas import test_fuzz


@pytest.mark.parametrize("name", TARGETS)
def test_what_it_begins_with_is_fine(name: str) -> None:
    target = TARGETS[name]
    for data in (*target.corpus, b"", b"\0"):
        target.check(data)


def test_each_codec_is_fuzzed() -> None:
    codecs = [each.hypothesis.inner_test for each in vars(test_fuzz).values() if _is_given(each)]
    assert codecs
    assert not [each for each in codecs if each not in [one.check for one in TARGETS.values()]]


def _is_given(each: object) -> bool:
    return hasattr(each, "hypothesis")
