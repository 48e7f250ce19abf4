"""What the tests of OpenAI's library ask, and how they look at the answer."""

from __future__ import annotations

from typing import Any

import openai
import pydantic
import pytest
from openai import AsyncOpenAI

from tests.acceptance.conftest import MODEL

ALIAS = "gpt-4o-mini"
QUESTION: Any = [{"role": "user", "content": "What is the capital of France? One sentence."}]
STORY: Any = [{"role": "user", "content": "Tell me a story about the sea."}]
THOUGHT = {"grammar": 'root ::= "hm\\n</think>\\n\\nParis"'}
"""Holds the model to a thought and an answer."""


class Capital(pydantic.BaseModel):
    city: str
    inhabitants: int


async def refused(call: Any) -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as caught:
        await call
    return caught.value


async def chat(client: AsyncOpenAI, messages: Any = QUESTION, **fields: Any) -> Any:
    body = {"model": MODEL, "temperature": 0, "max_tokens": 24, "messages": messages, **fields}
    return await client.chat.completions.create(**body)


def said(answer: Any) -> str:
    text: str = answer.choices[0].message.content
    return text
