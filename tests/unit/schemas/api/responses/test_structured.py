from __future__ import annotations

from schemas.api.responses.structured import FinishedTexts, finished_texts

PART = {"type": "output_text", "text": "{}"}
ITEMS = [{"type": "message", "content": [PART, {"type": "refusal"}]}, {"type": "reasoning"}]
DOCUMENT = {"status": "completed", "output": ITEMS}


def test_only_completed_responses_have_finished_texts() -> None:
    assert list(finished_texts(DOCUMENT)) == ["{}"]
    assert list(finished_texts({**DOCUMENT, "status": "incomplete"})) == []


def test_the_last_event_has_them() -> None:
    texts = FinishedTexts()
    assert not list(texts.add({"type": "response.output_text.done", "text": "{}"}))
    assert list(texts.add({"type": "response.completed", "response": DOCUMENT})) == ["{}"]
