"""llama-server's events at ``/v1/responses`` as OpenAI documents them.

Whole answers, and those that were cut: test_llamacpp.
"""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.doubles.llamacpp import DATA
from workers.engines.llamacpp.responses import Repair

Event = dict[str, Any]


def recorded(name: str) -> list[Event]:
    lines = (DATA / f"{name}.sse").read_bytes().splitlines()
    return [orjson.loads(line[6:]) for line in lines if line.startswith(b"data: ")]


def changed(events: list[Event], **request: Any) -> list[Event]:
    repair = Repair(request, "own")
    return [each for event in events for each in repair.change(event)]


def of(events: list[Event], item: str) -> list[Event]:
    """Those that are about one item."""
    return [
        each for each in events if item in (each.get("item_id"), each.get("item", {}).get("id"))
    ]


def test_a_thought_is_a_part_of_its_item() -> None:
    events = changed(recorded("responses_thought"))
    thought = next(e["item"]["id"] for e in events if e["type"] == "response.output_item.added")
    about = of(events, thought)
    assert [each["type"].removeprefix("response.") for each in about] == [
        "output_item.added",
        "content_part.added",
        *["reasoning_text.delta"] * 3,
        "reasoning_text.done",
        "content_part.done",
        "output_item.done",
    ]
    assert {each["output_index"] for each in about} == {0}
    assert {each["content_index"] for each in about[1:-1]} == {0}
    assert about[1]["part"] == {"type": "reasoning_text", "text": ""}
    assert about[-3]["text"] == "hm\n" == "".join(each["delta"] for each in about[2:5])
    assert about[-2]["part"] == about[-1]["item"]["content"][0]
    assert about[-1]["item"]["status"] == "completed"
    assert [each["sequence_number"] for each in events] == list(range(len(events)))


@pytest.mark.parametrize(("context", "whole"), [(0, True), (4096, True), ("all", False)])
def test_an_answer_that_ends_where_the_context_is_full_was_cut(
    context: int | str, whole: bool
) -> None:
    events = recorded("responses")
    used = events[-1]["response"]["usage"]["total_tokens"]
    repair = Repair({}, "own", used if context == "all" else int(context))
    last = [each for event in events for each in repair.change(event)][-1]
    assert last["type"] == ("response.completed" if whole else "response.incomplete")
    told = last["response"]["incomplete_details"]
    assert told == (None if whole else {"reason": "max_output_tokens"})


JSON = {"text": {"format": {"type": "json_object"}}}


@pytest.mark.parametrize(
    ("text", "request_", "kind"),
    [
        ('{"a": "b', JSON, "incomplete"),
        ('{"a": "b"}', JSON, "completed"),
        ("I cannot", JSON, "completed"),
        ("", JSON, "completed"),
        ('{"a": "b', {}, "completed"),
    ],
)
def test_json_without_an_end_was_cut(text: str, request_: dict[str, Any], kind: str) -> None:
    events = recorded("responses")
    events[-1]["response"]["output"][-1]["content"][-1]["text"] = text
    assert changed(events, **request_)[-1]["type"] == f"response.{kind}"


@pytest.mark.parametrize(("told", "kind"), [('{"a": ', "incomplete"), ("{}", "completed")])
def test_arguments_without_an_end_were_cut(told: str, kind: str) -> None:
    events = recorded("responses_tool")
    (call,) = (e for e in events[-1]["response"]["output"] if e["type"] == "function_call")
    call["arguments"] = told
    assert changed(events)[-1]["type"] == f"response.{kind}"


def test_thoughts_are_counted_and_nothing_else() -> None:
    for name, tokens in (("responses_thought", 3), ("responses", 0)):
        usage = changed(recorded(name))[-1]["response"]["usage"]
        assert usage["output_tokens_details"] == {"reasoning_tokens": tokens}


@pytest.mark.parametrize("told", [False, True])
def test_the_arguments_of_a_call_are_done_once(told: bool) -> None:
    name = "response.function_call_arguments.done"
    events = recorded("responses_tool")
    if told:  # by the engine itself
        at = next(i for i, e in enumerate(events) if e["type"] == "response.output_text.done")
        call = next(e["item_id"] for e in events if "function_call" in e["type"])
        events.insert(at, {"type": name, "item_id": call, "arguments": "{}"})
    found = changed(events)
    (done,) = [each for each in found if each["type"] == name]
    assert done["output_index"] == 1
    if not told:
        ended = found[found.index(done) + 1]["item"]
        wanted = ended["id"], ended["name"], ended["arguments"]
        assert (done["item_id"], done["name"], done["arguments"]) == wanted


def test_a_text_begins_with_no_annotations() -> None:
    events = changed(recorded("responses"))
    (begun,) = [e["part"] for e in events if e["type"] == "response.content_part.added"]
    assert begun == {"type": "output_text", "text": "", "annotations": [], "logprobs": []}


def test_an_answer_repeats_what_was_asked_for() -> None:
    tools = [{"type": "function", "name": "f", "model": "not this one"}]
    asked = {"instructions": "Be brief.", "tools": tools, "temperature": 0, "metadata": {"a": "b"}}
    events = changed(recorded("responses"), store=True, **asked)
    responses = [each["response"] for each in events if "response" in each]
    assert [each["status"] for each in responses] == ["in_progress", "in_progress", "completed"]
    for response in responses:
        assert {name: response[name] for name in asked} == asked
        assert (response["model"], response["error"], response["store"]) == ("own", None, False)
        assert (response["tool_choice"], response["parallel_tool_calls"]) == ("auto", True)
        assert response["incomplete_details"] is None
