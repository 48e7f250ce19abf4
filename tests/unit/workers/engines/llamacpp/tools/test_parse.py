"""Calls read out of text that comes in pieces: however it is cut, they are the same."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.engines.llamacpp.tools.parse import reader
from workers.engines.llamacpp.tools.prompt import Expected

WRITTEN = Expected("written", ("f", "g"))
FORCED = Expected("forced", ("f", "g"))
EITHER = Expected("either", ("f", "g"))


def call(name: str = "f", arguments: str = '{"a": 1}') -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


def read(expected: Expected, pieces: list[str]) -> tuple[str, list[tuple[str, str]]]:
    """The text, and name and arguments of each call."""
    made = reader(expected)
    text, calls = "", []
    for delta in [*(each for piece in pieces for each in made.feed(piece)), *made.end()]:
        text += delta.get("content", "")
        for part in delta.get("tool_calls", ()):
            if "id" in part:
                assert re.fullmatch("call_[0-9a-f]{24}", part["id"])
                calls.append([part["function"]["name"], ""])
            assert part["index"] == len(calls) - 1
            calls[-1][1] += part["function"]["arguments"]
    assert made.count == len(calls)
    return text, [(name, arguments) for name, arguments in calls]


CASES: list[tuple[Expected, str, str, list[tuple[str, str]]]] = [
    (WRITTEN, "Paris, of course.", "Paris, of course.", []),
    (WRITTEN, "", "", []),
    (WRITTEN, "\n <", "\n <", []),
    (WRITTEN, "<tool_", "<tool_", []),
    (WRITTEN, call(), "", [("f", '{"a":1}')]),
    (WRITTEN, f"\n{call()}\n", "", [("f", '{"a":1}')]),
    (WRITTEN, f"{call()}\n{call('g', '{}')}", "", [("f", '{"a":1}'), ("g", "{}")]),
    (WRITTEN, f"{call()} and so on", " and so on", [("f", '{"a":1}')]),
    (WRITTEN, f"So: {call()}", f"So: {call()}", []),
    (WRITTEN, call("h"), call("h"), []),
    (WRITTEN, call(arguments='"a"'), call(arguments='"a"'), []),
    (WRITTEN, call(arguments="{"), call(arguments="{"), []),
    (WRITTEN, '<tool_call>{"name": "f"}</tool_call>', "", [("f", "{}")]),
    (WRITTEN, call().removesuffix("\n</tool_call>"), "", [("f", '{"a":1}')]),
    (WRITTEN, call()[:30], call()[:30], []),
    (WRITTEN, call(arguments='{"a":"</tool_call>"}'), "", [("f", '{"a":"</tool_call>"}')]),
    (WRITTEN, "<tool_call>[1]</tool_call>", "<tool_call>[1]</tool_call>", []),
    (FORCED, '{"name": "f", "arguments": {"a": {"b": "} "}}}', "", [("f", '{"a": {"b": "} "}}')]),
    (FORCED, ' {\n "name":"g",\n "arguments":\n {}\n }\n', "", [("g", "{}")]),
    (FORCED, 'So: {"name": "f", "arguments": {}}', "", [("f", "{}")]),
    (FORCED, '{"name": "f", "arguments": {"a": {"b": 1}', "", [("f", '{"a": {"b": 1}')]),
    (FORCED, '{"name": "f", "arguments": ', "", [("f", "")]),
    (FORCED, '{"name": "f", "argu', "", [("f", "")]),
    (FORCED, '{"name": "f', "", []),
    (Expected("forced", ("f",)), '{"na', "", [("f", "")]),
    (EITHER, '{"name": "f", "arguments": {"a": 1}}', "", [("f", '{"a": 1}')]),
    (EITHER, '{\n "name" : "x"}', '{\n "name" : "x"}', []),
    (EITHER, '{"answer": 1}', '{"answer": 1}', []),
    (EITHER, '{"name": "f"', '{"name": "f"', []),
    (EITHER, "", "", []),
]


def test_what_is_a_call_and_what_is_text(subtests: pytest.Subtests) -> None:
    for expected, said, text, calls in CASES:
        with subtests.test(f"{expected!r:.60} {said!r:.60}"):
            assert read(expected, [said]) == (text, calls)
            assert read(expected, list(said)) == (text, calls)


PIECES = st.lists(
    st.sampled_from(
        [
            *("<tool_call>", "</tool_call>", "<tool", "\n", " ", "{", "}", '"', "\\", "a", "<"),
            *('{"name": "f", "arguments": ', '{"name":"g"}', '{"a": "}"}', "}}", call(), "é"),
        ]
    ),
    max_size=8,
)


@given(
    expected=st.sampled_from([WRITTEN, FORCED, EITHER]),
    said=PIECES.map("".join),
    cuts=st.lists(st.integers(0, 60), max_size=6),
)
def test_any_cut_gives_the_same(expected: Expected, said: str, cuts: list[int]) -> None:
    places = sorted({0, len(said), *(cut for cut in cuts if cut < len(said))})
    pieces = [said[start:end] for start, end in pairwise(places)]
    assert read(expected, pieces) == read(expected, [said])


@given(said=PIECES.map("".join))
def test_no_text_is_lost(said: str) -> None:
    text, calls = read(WRITTEN, [said])
    assert calls or text == said


@given(
    arguments=st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
        max_leaves=8,
    ).map(lambda found: {"x": found}),
    form=st.sampled_from(["written", "forced", "either"]),
    indent=st.booleans(),
)
def test_any_arguments_come_through(arguments: Any, form: Any, indent: bool) -> None:
    option = orjson.OPT_INDENT_2 if indent else 0
    said = orjson.dumps({"name": "f", "arguments": arguments}, option=option).decode()
    said = f"<tool_call>\n{said}\n</tool_call>" if form == "written" else said
    text, ((name, found),) = read(Expected(form, ("f", "g")), list(said))
    assert (text, name, orjson.loads(found)) == ("", "f", arguments)


def test_text_is_held_back_only_while_it_may_be_a_call() -> None:
    made = reader(WRITTEN)
    assert made.feed("\n<tool") == []
    assert made.feed("s> are") == [{"content": "\n<tools> are"}]
    assert made.plain
    assert made.feed(call()) == [{"content": call()}]
    made = reader(EITHER)
    assert made.feed('{ "name": "') == []
    assert made.feed("Rome") == [{"content": '{ "name": "Rome'}]
    assert made.feed('{"name": "f", "arguments": ') == [
        {"content": '{"name": "f", "arguments": '}
    ], "it is text from here on"


def test_arguments_of_a_forced_call_pass_as_they_come() -> None:
    made = reader(FORCED)
    assert made.feed('{"name": "f", "arguments": ') == []
    (opened, first) = made.feed('{"a": ')
    assert opened["tool_calls"][0]["function"] == {"name": "f", "arguments": ""}
    assert first["tool_calls"] == [{"index": 0, "function": {"arguments": '{"a":'}}]
    (second,) = made.feed("[1]")
    assert second["tool_calls"][0]["function"]["arguments"] == " [1]"
