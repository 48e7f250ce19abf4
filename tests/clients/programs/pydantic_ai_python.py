"""Pydantic AI: chats, responses and messages; typed answers by tool and by schema."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from steps import CLAUDE, KEY, MODEL, QUESTION, URL, step, weather

openai = OpenAIProvider(base_url=URL + "/v1", api_key=KEY)
models: dict[str, Any] = {
    "OpenAIChatModel": OpenAIChatModel(MODEL, provider=openai),
    "OpenAIResponsesModel": OpenAIResponsesModel(MODEL, provider=openai),
    "AnthropicModel": AnthropicModel(CLAUDE, provider=AnthropicProvider(base_url=URL, api_key=KEY)),
}


class Weather(BaseModel):
    city: str
    degrees: int


def with_tools(model: Any) -> str:
    agent = Agent(model)
    agent.tool_plain(weather, name="get_weather")
    return agent.run_sync(QUESTION).output


def use(name: str, model: Any) -> None:
    step(f"{name} run", "words", lambda: Agent(model).run_sync(QUESTION).output)
    step(f"{name} with a tool", "mark", lambda: with_tools(model))
    step(
        f"{name} output by tool",
        "words",
        lambda: Agent(model, output_type=Weather).run_sync(QUESTION).output,
    )
    step(
        f"{name} output by schema",
        "words",
        lambda: Agent(model, output_type=NativeOutput(Weather)).run_sync(QUESTION).output,
    )


for each in models.items():
    use(*each)
