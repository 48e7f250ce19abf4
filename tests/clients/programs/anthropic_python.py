"""Anthropic's SDK for Python, with the strict validation that it leaves off by default."""

from __future__ import annotations

from typing import Any

from anthropic import Anthropic, beta_tool
from pydantic import BaseModel
from steps import KEY, MODEL, QUESTION, URL, step, weather

client = Anthropic(base_url=URL, api_key=KEY, max_retries=0, _strict_response_validation=True)
asked: dict[str, Any] = {
    "model": MODEL,
    "max_tokens": 200,
    "messages": [{"role": "user", "content": QUESTION}],
}


class Weather(BaseModel):
    city: str
    degrees: int


@beta_tool
def get_weather(city: str) -> str:
    """The weather of a city.

    Args:
        city: its name
    """
    return weather(city)


def texts(message: Any) -> str:
    return "".join(getattr(block, "text", "") for block in message.content)


def streamed() -> str:
    with client.messages.stream(**asked) as stream:
        return stream.get_final_text()


def ran(stream: bool) -> str:
    runner = client.beta.messages.tool_runner(**asked, tools=[get_weather], stream=stream)
    last: Any = None
    for answer in runner:
        last = answer.get_final_message() if stream else answer
    return texts(last)


step("models.list", "words", lambda: [model.id for model in client.models.list()])
step("messages", "words", lambda: texts(client.messages.create(**asked)))
step("messages.stream", "words", streamed)
step(
    "messages.count_tokens",
    "words",
    lambda: client.messages.count_tokens(model=MODEL, messages=asked["messages"]).input_tokens,
)
step(
    "messages.parse",
    "words",
    lambda: client.messages.parse(**asked, output_format=Weather).parsed_output,
)
step("beta tool_runner", "mark", lambda: ran(False))
step("beta tool_runner, streamed", "mark", lambda: ran(True))
