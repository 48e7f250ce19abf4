"""LiteLLM: chats, texts, responses, messages, Ollama's API, embeddings and ranks."""

from __future__ import annotations

import json
import os
from typing import Any

# It fetches a list of prices otherwise, which takes it ten seconds where there is no internet.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm
from pydantic import BaseModel
from steps import CITY, CLAUDE, EMBEDDER, KEY, MODEL, QUESTION, URL, step, weather


class Weather(BaseModel):
    city: str
    degrees: int


function = {"name": "get_weather", "description": "The weather of a city", "parameters": CITY}
tools = [{"type": "function", "function": function}]
v1: dict[str, Any] = {"api_base": URL + "/v1", "api_key": KEY}
bare: dict[str, Any] = {"api_base": URL, "api_key": KEY}
chats: dict[str, dict[str, Any]] = {
    "openai/": {"model": f"openai/{MODEL}", **v1},
    "hosted_vllm/": {"model": f"hosted_vllm/{MODEL}", **v1},
    "anthropic/": {"model": f"anthropic/{CLAUDE}", **bare},
    "ollama_chat/": {"model": f"ollama_chat/{MODEL}", **bare},
}


def asked(told: dict[str, Any], **more: Any) -> Any:
    question = [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}]
    return litellm.completion(**{"messages": question, **told, **more})


def streamed(told: dict[str, Any]) -> str:
    pieces = asked(told, stream=True, stream_options={"include_usage": True})
    return "".join(chunk.choices[0].delta.content or "" for chunk in pieces if chunk.choices)


def with_tools(told: dict[str, Any]) -> str:
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    for _ in range(3):
        answer = asked(told, messages=messages, tools=tools).choices[0].message
        if not answer.tool_calls:
            return str(answer.content)
        messages.append(answer)
        for call in answer.tool_calls:
            said = weather(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": said})
    raise RuntimeError("it went on calling")


def use(name: str, told: dict[str, Any]) -> None:
    step(f"{name} whole", "words", lambda: asked(told).choices[0].message.content)
    step(f"{name} streamed", "words", lambda: streamed(told))
    step(f"{name} a tool", "mark", lambda: with_tools(told))
    step(
        f"{name} a schema",
        "words",
        lambda: Weather.model_validate_json(
            asked(told, response_format=Weather).choices[0].message.content
        ),
    )


for each in chats.items():
    use(*each)
text = {"model": f"text-completion-openai/{MODEL}", "prompt": "Say hi.", **v1}
step("text_completion", "words", lambda: litellm.text_completion(**text).choices[0].text)
response = {"model": f"openai/{MODEL}", "input": QUESTION, **v1}
step("responses", "words", lambda: litellm.responses(**response).output_text)
inputs = {"model": f"openai/{EMBEDDER}", "input": ["hi", "ho"], **v1}
step("embedding", "words", lambda: len(litellm.embedding(**inputs).data))
documents = {"query": "hi", "documents": ["hi", "ho"], "top_n": 1}
ranked = {"model": f"hosted_vllm/{EMBEDDER}", **documents, **v1}
step("rerank", "words", lambda: litellm.rerank(**ranked).results)
