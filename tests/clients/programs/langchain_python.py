"""LangChain: both of OpenAI's APIs, Anthropic's, and embeddings."""

from __future__ import annotations

from typing import Any

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel
from steps import EMBEDDER, KEY, MODEL, QUESTION, URL, step, weather


class Weather(BaseModel):
    city: str
    degrees: int


@tool
def get_weather(city: str) -> str:
    """The weather of a city."""
    return weather(city)


def with_tools(chat: Any) -> str:
    messages: list[Any] = [HumanMessage(QUESTION)]
    bound = chat.bind_tools([get_weather])
    for _ in range(3):
        answer = bound.invoke(messages)
        if not answer.tool_calls:
            return str(answer.text)
        messages += [answer, *(get_weather.invoke(call) for call in answer.tool_calls)]
    raise RuntimeError("it went on calling")


usual: dict[str, Any] = {"model": MODEL, "api_key": KEY, "max_retries": 0}
own: dict[str, Any] = {**usual, "base_url": URL + "/v1"}
chats: dict[str, Any] = {
    "ChatOpenAI": ChatOpenAI(**own),
    "ChatOpenAI, responses": ChatOpenAI(**own, use_responses_api=True),
    "ChatAnthropic": ChatAnthropic(**usual, base_url=URL),
}


def use(name: str, chat: Any) -> None:
    step(f"{name} invoke", "words", lambda: chat.invoke(QUESTION).text)
    step(f"{name} stream", "words", lambda: "".join(str(c.text) for c in chat.stream(QUESTION)))
    step(f"{name} bind_tools", "mark", lambda: with_tools(chat))
    for method in ("json_schema", "function_calling"):
        step(
            f"{name} with_structured_output, {method}",
            "words",
            lambda m=method: chat.with_structured_output(Weather, method=m).invoke(QUESTION),
        )


for each in chats.items():
    use(*each)
embedder = OpenAIEmbeddings(
    model=EMBEDDER, base_url=URL + "/v1", api_key=KEY, check_embedding_ctx_length=False
)
step("OpenAIEmbeddings", "words", lambda: len(embedder.embed_documents(["hi", "ho"])))
