"""OpenAI's Agents SDK for Python, over both of OpenAI's APIs."""

from __future__ import annotations

import asyncio
from typing import Any

from agents import (
    Agent,
    Runner,
    function_tool,
    set_default_openai_api,
    set_default_openai_client,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from pydantic import BaseModel
from steps import KEY, MODEL, QUESTION, URL, step, weather

set_tracing_disabled(True)


class Weather(BaseModel):
    city: str
    degrees: int


@function_tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return weather(city)


async def ran(streamed: bool, **more: Any) -> Any:
    set_default_openai_client(AsyncOpenAI(base_url=URL + "/v1", api_key=KEY, max_retries=0), False)
    agent = Agent(name="A", instructions="Be short.", model=MODEL, **more)
    if not streamed:
        return (await Runner.run(agent, QUESTION)).final_output
    result = Runner.run_streamed(agent, QUESTION)
    async for _ in result.stream_events():
        pass
    return result.final_output


for api in ("responses", "chat_completions"):
    set_default_openai_api(api)
    step(f"{api} run", "mark", lambda: asyncio.run(ran(False, tools=[get_weather])))
    step(f"{api} run, streamed", "mark", lambda: asyncio.run(ran(True, tools=[get_weather])))
    step(f"{api} output_type", "words", lambda: asyncio.run(ran(False, output_type=Weather)))
