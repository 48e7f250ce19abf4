"""openai-python, with the strict validation of what comes back that it leaves off by default."""

from __future__ import annotations

import json
from typing import Any

from openai import OpenAI, pydantic_function_tool
from pydantic import BaseModel
from steps import CITY, EMBEDDER, KEY, MODEL, QUESTION, URL, step, weather

client = OpenAI(base_url=URL + "/v1", api_key=KEY, max_retries=0, _strict_response_validation=True)
asked: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": QUESTION}]}
tools = [{"type": "function", "function": {"name": "get_weather", "parameters": CITY}}]


class Weather(BaseModel):
    city: str
    degrees: int


class get_weather(BaseModel):
    city: str


def streamed() -> str:
    chunks = client.chat.completions.create(**asked, stream=True)
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


def chat_with_tools() -> str:
    messages = list(asked["messages"])
    for _ in range(3):
        with client.chat.completions.stream(
            model=MODEL, messages=messages, tools=[pydantic_function_tool(get_weather)]
        ) as stream:
            message = stream.get_final_completion().choices[0].message
        if not message.tool_calls:
            return message.content or ""
        messages.append(message.model_dump())
        for call in message.tool_calls:
            result = weather(json.loads(call.function.arguments)["city"])
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    raise RuntimeError("it went on calling")


def response_with_tools() -> str:
    items: list[Any] = [{"role": "user", "content": QUESTION}]
    own = [{"type": "function", "name": "get_weather", "parameters": CITY, "strict": True}]
    for _ in range(3):
        with client.responses.stream(model=MODEL, input=items, tools=own) as stream:
            answer = stream.get_final_response()
        calls = [item for item in answer.output if item.type == "function_call"]
        if not calls:
            return answer.output_text
        items += answer.output
        for call in calls:
            result = weather(json.loads(call.arguments)["city"])
            items.append(
                {"type": "function_call_output", "call_id": call.call_id, "output": result}
            )
    raise RuntimeError("it went on calling")


def forced() -> str:
    answer = client.chat.completions.create(**asked, tools=tools, tool_choice="required")
    return answer.choices[0].message.tool_calls[0].function.arguments


step("models.list", "words", lambda: [model.id for model in client.models.list()])
step("chat", "words", lambda: client.chat.completions.create(**asked).choices[0].message.content)
step("chat, streamed", "words", streamed)
step("chat.stream with a tool", "mark", chat_with_tools)
step("chat, tool_choice required", "words", forced)
step(
    "chat.parse",
    "words",
    lambda: client.chat.completions.parse(**asked, response_format=Weather).choices[0].message,
)
step(
    "responses",
    "words",
    lambda: client.responses.create(model=MODEL, input=QUESTION).output_text,
)
step("responses.stream with a tool", "mark", response_with_tools)
step(
    "responses.parse",
    "words",
    lambda: client.responses.parse(model=MODEL, input=QUESTION, text_format=Weather).output_parsed,
)
step(
    "completions",
    "words",
    lambda: client.completions.create(model=MODEL, prompt="Say", max_tokens=5).choices[0].text,
)
step(
    "embeddings",
    "words",
    lambda: len(
        client.embeddings.create(model=EMBEDDER, input=["hi", "ho"], encoding_format="float").data
    ),
)
