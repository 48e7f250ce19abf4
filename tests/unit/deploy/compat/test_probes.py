"""Every probe against a server that does it right, and against one that only seems to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from deploy.compat.probes import ROWS
from deploy.compat.run import examine
from deploy.compat.transport import Answer, Ask
from tests.unit.deploy.compat.model import FACTS, Edit, Model

BY_ID = {row.id: row for row in ROWS}
OF_THE_EDGE = {"models", "keys", "several_models", "reachable", "errors", "nothing_silent"}
OF_THE_EDGE |= {"hints", "packed"}
WATCHED = {"cancel", "request_id"}
MODELS = [row for row in ROWS if row.id not in OF_THE_EDGE | WATCHED]


async def test_who_does_it_right_gets_a_yes(subtests: pytest.Subtests) -> None:
    for row in MODELS:
        with subtests.test(row.id):
            cell = await examine(row, Model().target())
            assert (cell.answer, cell.late) == ("yes", False), cell.reason
            assert cell.reason


SILENT = [
    ("stop", ["stop"], "no", "it went on past “3,”"),
    ("seed", ["seed"], "no", "three texts in three tries"),
    ("seed", ["temperature", "seed"], "no", "three texts in three tries"),
    ("n", ["n"], "no", "n: 2 gave the choices [0]"),
    ("logprobs", ["logprobs"], "no", "the request passed, and no logprobs came"),
    ("max_tokens", ["max_tokens"], "partial", "max_tokens: 5 gave 100 tokens"),
    ("max_tokens", ["max_completion_tokens"], "partial", "max_completion_tokens: 5 gave 100"),
    ("max_tokens", ["max_tokens", "max_completion_tokens"], "no", "5 gave 100 tokens"),
    ("temperature", ["top_p"], "partial", "top_p: 0.000001 did not"),
    ("temperature", ["temperature"], "partial", "temperature: 5.0 is taken; temperature: 0 gave"),
    ("json", ["response_format"], "no", "the schema does not hold: “"),
    ("json_streamed", ["response_format"], "no", "the schema does not hold"),
    ("bad_schema", ["response_format"], "no", "'nonsense' was taken"),
    ("tools", ["tools"], "no", "instead of calling the tool"),
    ("tools", ["tool_choice"], "no", "the model answered “1, 2, 3,"),
    ("tools_streamed", ["tools"], "no", "instead of calling the tool"),
    ("tools_parallel", ["tools"], "no", "instead of calling the tool"),
    ("include_usage", ["stream_options"], "no", "no usage comes before [DONE]"),
    ("streaming", ["stream"], "no", "no event stream"),
    ("messages_call", ["tool_choice"], "no", "no call came"),
    ("ollama", ["stream"], "no", "not as documented"),
    ("base64", ["encoding_format"], "no", "encoding_format did nothing"),
    ("images", ["size"], "partial", "512x512 pixels came where 256x256 was asked for"),
    ("edits", ["size"], "partial", "512x512 pixels came"),
    ("formats", ["response_format"], "partial", "text: application/json"),
    ("usage", ["n"], "partial", "two choices of 5 tokens count as 5"),
]


async def test_a_field_that_does_nothing_is_seen(subtests: pytest.Subtests) -> None:
    for row, ignores, answer, why in SILENT:
        with subtests.test(f"{row} {ignores}"):
            cell = await examine(BY_ID[row], Model(*ignores).target())
            assert cell.answer == answer, cell.reason
            assert why in cell.reason


FORCED = [
    ("seed", {"temperature": 0}, "four seeds gave one and the same text"),
    ("temperature", {"temperature": 0}, "gave three times the text of temperature: 0"),
    ("seed", {"temperature": 1, "seed": 3}, "four seeds gave one and the same text"),
]


@pytest.mark.parametrize(("row", "forced", "why"), FORCED)
async def test_a_server_with_values_of_its_own_is_seen(
    row: str, forced: dict[str, Any], why: str
) -> None:
    cell = await examine(BY_ID[row], Model(**forced).target())
    assert cell.answer == "no", cell.reason
    assert why in cell.reason


def changed(*path: Any, to: Any) -> Edit:
    """With another value at `path`, where there is such a place."""

    def edit(found: Any) -> Any:
        if isinstance(found, list):
            return found  # a stream
        inner = found
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = to(inner[path[-1]]) if callable(to) else to
        return found

    return edit


def events(keep: Callable[[Any], bool]) -> Edit:
    return lambda found: [e for e in found if keep(e)] if isinstance(found, list) else found


def twice(found: Any) -> Any:
    """The same vector for everybody."""
    for each in found["data"]:
        each["embedding"] = [1.0, 1.0, 1.0]
    return found


def blind(found: Any) -> Any:
    found["usage"]["prompt_tokens"] = 9
    return found


def unfinished(found: Any) -> Any:
    return found if isinstance(found, dict) else found.replace(b'"done":true', b'"done":false')


anew = changed("choices", 0, "message", "content", to="1, 2, 3, 4")


def lost(found: Any) -> Any:
    """With another text for what should be gone on with."""
    message = found["choices"][0]["message"]
    message["content"] = "East." if message["content"].startswith(" ") else message["content"]
    return found


WRONG: list[tuple[str, Edit, str, str]] = [
    ("chat", changed("choices", 0, "message", "content", to=""), "no", "the message is empty"),
    ("chat", changed("model", to="/srv/mill.gguf"), "no", "names the model '/srv/mill.gguf'"),
    ("chat", changed("choices", to=[]), "no", "not as documented: IndexError"),
    ("chat", lambda _: b"<html>", "no", "not as documented: JSONDecodeError"),
    ("completions", changed("choices", 0, "text", to=" "), "no", "the text is empty"),
    ("embeddings", twice, "no", "two texts got the same vector"),
    ("streaming", events(lambda e: e != b"[DONE]"), "no", "ends without [DONE]"),
    ("streaming", lambda found: [*found[:2], *found[-2:]], "no", "came in 1 piece"),
    (
        "logprobs",
        changed("choices", 0, "logprobs", "content", 0, "logprob", to=0.7),
        "no",
        "not ≤ 0",
    ),
    ("logprobs", changed("choices", 0, "message", "content", to="else"), "no", "are not the text"),
    ("vision", blind, "no", "the picture took no tokens"),
    ("usage", changed("usage", "total_tokens", to=1), "no", "does not add up"),
    ("responses", changed("output", to=[]), "no", "the output has no text"),
    ("messages", changed("content", to=[]), "no", "it is empty"),
    ("messages_call", changed("stop_reason", to="end_turn"), "no", "stopped: 'end_turn'"),
    ("messages_call", changed("content", 0, "input", to={"town": 1}), "no", "does not fit"),
    ("ollama", unfinished, "no", "ends without a line that says so"),
    ("resumed", anew, "no", "it began anew"),
    ("resumed", lost, "no", "” came “East.”"),
    ("count_tokens", changed("input_tokens", to=7), "no", "has not more tokens: [7, 7]"),
    ("moderations", lambda f: {"results": f["results"][:1]}, "no", "1 results for two texts"),
    ("moderations", changed("results", 0, "category_scores", to={}), "no", "a score is missing"),
    ("rerank", lambda f: {"results": f["results"][::-1]}, "no", "not in order"),
    ("rerank", changed("results", 0, "index", to=2), "no", "not one result for each document"),
    ("transcriptions", changed("text", to="..."), "partial", "it heard “...”"),
    ("translations", changed("text", to=" "), "no", "no text came"),
    ("images", changed("data", 0, "b64_json", to="AAAA"), "no", "what came"),
]


async def test_an_answer_that_only_seems_right_is_seen(subtests: pytest.Subtests) -> None:
    for row, edit, answer, why in WRONG:
        with subtests.test(f"{row} {why}"):
            cell = await examine(BY_ID[row], Model(edit=edit).target())
            assert cell.answer == answer, cell.reason
            assert why in cell.reason


async def test_a_translation_that_comes_with_a_warning_is_half_of_one() -> None:
    class Warned(Model):
        async def send(self, ask: Ask) -> Answer:
            found = await super().send(ask)
            headers = {**found.headers, "x-headrace-warning": "it knows English alone"}
            return replace(found, headers=headers)

    cell = await examine(BY_ID["translations"], Warned().target())
    assert cell.answer == "partial"
    assert cell.reason.endswith("; it knows English alone")


async def test_usage_of_streamed_texts_counts_where_there_are_texts() -> None:
    both = replace(FACTS, features=("chat", "completions"))
    row = BY_ID["include_usage"]
    assert (await examine(row, Model().target(both))).answer == "yes"

    def unasked(found: Any) -> Any:
        texts = isinstance(found, list) and found[0].get("object") == "text_completion"
        return [{**found[0], "usage": {}}, {**found[0], "usage": {"x": 1}}] if texts else found

    cell = await examine(row, Model(edit=unasked).target(both))
    assert cell.answer == "partial"
    assert cell.reason == "in chats; in text completions, usage comes without being asked"
    assert (await examine(row, Model(edit=unasked).target())).answer == "yes"


async def test_a_prompt_that_was_cut_in_silence() -> None:
    short = replace(FACTS, context=32)  # the server itself takes more
    cut = changed("usage", "prompt_tokens", to=32)
    cell = await examine(BY_ID["too_long"], Model(edit=cut).target(short))
    assert cell.answer == "no"
    assert cell.reason == "96 words were cut to 32 tokens, without a word of it"
    cell = await examine(BY_ID["too_long"], Model().target(replace(FACTS, context=0)))
    assert (cell.answer, "not tried" in cell.reason) == ("partial", True)


async def test_the_vision_row_tells_what_the_model_made_of_it() -> None:
    red = changed("choices", 0, "message", "content", to="Red.")
    cell = await examine(BY_ID["vision"], Model(edit=red).target())
    assert cell.reason == "the picture took 16 tokens, and it named the colour"
    cell = await examine(BY_ID["vision"], Model().target())
    assert "the model said “1, 2," in cell.reason
