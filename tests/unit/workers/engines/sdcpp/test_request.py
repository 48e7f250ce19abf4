"""The engine's own tag in prompts, whatever people make of it."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.engines.sdcpp.request import MAX_PROMPT, strip_extra_args

ITS_OWN = re.compile("<sd_cpp_extra_args>(.*?)</sd_cpp_extra_args>")
"""How sd-server finds its tag."""
PIECES = (
    "<sd_cpp_extra_args>",
    "</sd_cpp_extra_args>",
    "<SD_CPP_EXTRA_ARGS x>",
    "< / sd_cpp_extra_args\n>",
    "<sd_cpp_",
    "</sd_cpp_",
    "extra_args>",
    '{"seed":1}',
    "a cat",
    "<",
    ">",
)
OURS = '<sd_cpp_extra_args>{"seed":9}</sd_cpp_extra_args>'


@given(pieces=st.lists(st.sampled_from(PIECES), max_size=30))
def test_nothing_of_it_is_left(pieces: list[str]) -> None:
    prompt = strip_extra_args("".join(pieces))

    assert ITS_OWN.search(prompt) is None
    assert ITS_OWN.findall(prompt + OURS) == ['{"seed":9}'], "ours is the only one"
    assert strip_extra_args(prompt) == prompt


@given(prompt=st.text().filter(lambda text: "sd_cpp" not in text.lower()))
def test_other_prompts_stay_as_they_are(prompt: str) -> None:
    assert strip_extra_args(prompt) == prompt


@pytest.mark.parametrize(
    ("prompt", "left"),
    [
        ("a <sd_cpp_extra_args>{}</sd_cpp_extra_args>b", "a b"),
        ("<sd_cpp_extra_args><sd_cpp_extra_args>x</sd_cpp_extra_args>y</sd_cpp_extra_args>z", "z"),
        ("a</sd_cpp_extra_args>b", "ab"),
        ("a<sd_cpp_extra_args>b", "a"),
        ("a < b and c > d", "a < b and c > d"),
        ("<sd_cpp_extra_argsy>a", "<sd_cpp_extra_argsy>a"),
    ],
)
def test_what_stands_around_it_stays(prompt: str, left: str) -> None:
    assert strip_extra_args(prompt) == left


@pytest.mark.parametrize(
    "piece",
    [
        "<sd_cpp_extra_args>",
        "<sd_cpp_extra_args ",
        "<sd_cpp_",
        "<" * 9,
        "< \n" * 9,
        "<" + " " * 15_000,
        "< / " + " " * 15_000,
    ],
)
def test_it_takes_no_longer_for_long_prompts_of_it(piece: str) -> None:
    """Its loop is the worker's: a second here is a second for every job."""
    half = MAX_PROMPT // (2 * len(piece))
    prompt = piece * half + "extra_args>" * half
    began = time.process_time()
    strip_extra_args(prompt)

    assert time.process_time() - began < 0.5
