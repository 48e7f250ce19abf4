"""Events that are changed on their way; those of whole answers: test_llamacpp."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.doubles.drive import CHAT, RecordingSink, chat, config, job, opened
from tests.doubles.llamacpp import DATA
from tests.doubles.llamacpp.server import LlamaCpp
from workers.engines.llamacpp.engine import LlamaCppEngine


async def streamed(recorded: bytes, **more: Any) -> RecordingSink:
    async with LlamaCpp() as server, opened(LlamaCppEngine(config("llamacpp", server.url))) as made:
        server.streams[CHAT] = [recorded]
        sink = RecordingSink()
        await made.run(job("own", stream=True), orjson.dumps(chat("hi", stream=True, **more)), sink)
    return sink


@pytest.mark.parametrize("name", ["chat", "tools", "reasoning"])
async def test_a_chat_begins_with_empty_content_and_goes_on_as_it_came(name: str) -> None:
    recorded = (DATA / f"{name}.sse").read_bytes()
    assert b'"content":null' in recorded
    sink = await streamed(recorded)
    assert sink.events[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    expected = recorded.replace(b'"content":null', b'"content":""', 1)
    assert sink.body == expected.replace(b'"smollm2-135m"', b'"own"')


async def test_each_choice_begins_so() -> None:
    sink = await streamed((DATA / "n2.sse").read_bytes(), n=2)
    first: dict[int, Any] = {}
    for event in sink.events:
        for choice in event["choices"]:
            first.setdefault(choice["index"], choice["delta"])
    assert first == {index: {"role": "assistant", "content": ""} for index in (0, 1)}


async def test_one_that_began_with_half_a_character_begins_so_too() -> None:
    """Seen of the real one where the first token is a part of an emoji."""
    recorded = (DATA / "chat.sse").read_bytes()
    first, _, rest = recorded.partition(b"\n\n")
    assert b'"role"' in first
    sink = await streamed(rest)
    assert sink.events[0] == {
        **{key: sink.events[1][key] for key in ("created", "id", "model", "object")},
        "system_fingerprint": sink.events[1]["system_fingerprint"],
        "choices": [
            {"finish_reason": None, "index": 0, "delta": {"role": "assistant", "content": ""}}
        ],
    }
    assert sink.body.endswith(rest.replace(b'"smollm2-135m"', b'"own"'))


async def test_words_of_the_model_are_not_changed() -> None:
    said = '"delta":{"role":"assistant","content":null}'
    delta = orjson.dumps({"choices": [{"index": 0, "delta": {"content": said}}]})
    sink = await streamed(b"data: %b\n\ndata: [DONE]\n\n" % delta)
    assert sink.text == said
