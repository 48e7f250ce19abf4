"""LlamaIndex: an address like OpenAI's, and OpenAI's responses."""

from __future__ import annotations

import asyncio
from typing import Any

from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai import OpenAIResponses
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel
from steps import KEY, MODEL, QUESTION, URL, step, weather


class Weather(BaseModel):
    """The weather of a city."""

    city: str
    degrees: int


tool = FunctionTool.from_defaults(weather, name="get_weather", description="The weather")
usual: dict[str, Any] = {"model": MODEL, "api_key": KEY, "max_retries": 0}
llms: dict[str, Any] = {
    "OpenAILike": OpenAILike(
        **usual, api_base=URL + "/v1", is_chat_model=True, is_function_calling_model=True
    ),
    "OpenAIResponses": OpenAIResponses(**usual, api_base=URL + "/v1", context_window=8192),
}


async def agent(llm: Any) -> str:
    return str(await FunctionAgent(tools=[tool], llm=llm).run(QUESTION))


def use(name: str, llm: Any) -> None:
    step(f"{name} complete", "words", lambda: llm.complete(QUESTION))
    step(
        f"{name} stream_complete",
        "words",
        lambda: "".join(piece.delta or "" for piece in llm.stream_complete(QUESTION)),
    )
    step(f"{name} FunctionAgent", "mark", lambda: asyncio.run(agent(llm)))
    step(
        f"{name} structured_predict",
        "words",
        lambda: llm.as_structured_llm(Weather).complete(QUESTION),
    )


for each in llms.items():
    use(*each)
