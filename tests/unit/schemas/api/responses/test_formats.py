from __future__ import annotations

from schemas.api.json_format import Finished
from schemas.api.responses.formats import FinishedParts, finished, objected

PART = {"type": "output_text", "text": "{}"}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "[]"}
ITEMS = [{"type": "message", "content": [PART, {"type": "refusal"}]}, {"type": "reasoning"}, CALL]
DOCUMENT = {"status": "completed", "output": ITEMS}
FOUND = [Finished("{}"), Finished("[]", "f")]


def test_only_completed_responses_are_finished() -> None:
    assert list(finished(DOCUMENT)) == FOUND
    assert list(finished({**DOCUMENT, "status": "incomplete"})) == []


def test_the_last_event_has_all() -> None:
    parts = FinishedParts()
    assert not list(parts.add({"type": "response.output_text.done", "text": "{}"}))
    assert list(parts.add({"type": "response.completed", "response": DOCUMENT})) == FOUND


def test_the_model_is_told_what_was_wrong() -> None:
    again = objected({"input": "hi"}, DOCUMENT, "it is odd")["input"]
    assert again[:2] == [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "{}"}]
    kinds = [(each["type"], each["call_id"]) for each in again[2:]]
    assert kinds == [("function_call", "c"), ("function_call_output", "c")]
    assert "it is odd" in again[3]["output"]
    text = objected({"input": [{"role": "user"}]}, {**DOCUMENT, "output": ITEMS[:2]}, "it is odd")
    assert [each["role"] for each in text["input"]] == ["user", "assistant", "user"]
    assert "it is odd" in text["input"][2]["content"]
