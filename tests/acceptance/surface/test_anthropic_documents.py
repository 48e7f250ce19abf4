"""Anthropic's documents and search results reach a real llama-server, which knows neither."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest
from anthropic import AsyncAnthropic

from tests.acceptance.conftest import MODEL
from tests.acceptance.surface.servers import TOOLS_MODEL

pytestmark = pytest.mark.asyncio(loop_scope="package")

WORDS = "The mill was built in 1850 by a miller from Lyon."
QUESTION: Any = {"type": "text", "text": "When was the mill built?"}
PLAIN: Any = {"type": "text", "media_type": "text/plain", "data": WORDS}
DOCUMENT: Any = {"type": "document", "source": PLAIN, "title": "The mill"}
RESULT: Any = {
    "type": "search_result",
    "source": "https://mill.test/",
    "title": "The mill",
    "content": [{"type": "text", "text": WORDS}],
}
SAID = {
    "document": f"<document>\n<title>The mill</title>\n{WORDS}\n</document>",
    "search_result": "<search_result>\n<source>https://mill.test/</source>\n"
    f"<title>The mill</title>\n{WORDS}\n</search_result>",
}


@pytest.mark.parametrize("model", [MODEL, TOOLS_MODEL])
@pytest.mark.parametrize("block", [DOCUMENT, RESULT], ids=["document", "search_result"])
async def test_it_is_read_as_its_text(claude: AsyncAnthropic, model: str, block: Any) -> None:
    said: Any = {"type": "text", "text": SAID[block["type"]]}
    counts = []
    for first in (block, said):
        messages: Any = [{"role": "user", "content": [first, QUESTION]}]
        asked: Any = {"model": model, "messages": messages}
        counts.append((await claude.messages.count_tokens(**asked)).input_tokens)
        usage = (await claude.messages.create(max_tokens=4, **asked)).usage
        counts.append(usage.input_tokens + (usage.cache_read_input_tokens or 0))
    assert set(counts) == {counts[0]}
    assert counts[0] > len(WORDS.split())


async def test_no_file_is_read_and_nothing_is_cited(claude: AsyncAnthropic) -> None:
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
    for block, place in (
        ({"type": "document", "source": pdf}, "source.type"),
        ({**DOCUMENT, "citations": {"enabled": True}}, "citations"),
    ):
        messages: Any = [{"role": "user", "content": [block, QUESTION]}]
        with pytest.raises(anthropic.BadRequestError) as refused:
            await claude.messages.create(model=MODEL, messages=messages, max_tokens=16)
        assert f"messages[0].content[0].{place}" in refused.value.message
