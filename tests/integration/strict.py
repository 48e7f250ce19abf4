"""Requests of the official clients, which check all fields of the answers by their types."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

USER: Any = [{"role": "user", "content": "What is the capital of France?"}]
FUNCTION: Any = {"name": "weather", "parameters": {"type": "object", "properties": {}}}
TOOLS: Any = [{"type": "function", "function": FUNCTION}]
FLAT_TOOLS: Any = [{"type": "function", "strict": None, **FUNCTION}]
CLAUDES_TOOLS: Any = [{"name": "weather", "input_schema": FUNCTION["parameters"]}]
CUT: Any = {
    "input": "Tell me a long story about the sea.",
    "max_output_tokens": 16,
    "temperature": 0,
}
WITH_USAGE: Any = {"include_usage": True}

Ask = Callable[[AsyncOpenAI, str], Awaitable[Any]]
AskClaude = Callable[[AsyncAnthropic, str], Awaitable[Any]]


def openai_client(url: str, key: str) -> AsyncOpenAI:
    return AsyncOpenAI(
        base_url=url + "/v1", api_key=key, max_retries=0, _strict_response_validation=True
    )


def anthropic_client(url: str, key: str) -> AsyncAnthropic:
    return AsyncAnthropic(
        base_url=url, api_key=key, max_retries=0, _strict_response_validation=True
    )


def _chat(**fields: Any) -> Ask:
    async def ask(client: AsyncOpenAI, model: str) -> Any:
        asked = {"messages": USER, "max_tokens": 12, "temperature": 0, **fields}
        return await _all(await client.chat.completions.create(model=model, **asked))

    return ask


def _text(**fields: Any) -> Ask:
    async def ask(client: AsyncOpenAI, model: str) -> Any:
        asked: Any = {"prompt": "Once upon", "max_tokens": 5, **fields}
        return await _all(await client.completions.create(model=model, **asked))

    return ask


def _response(**fields: Any) -> Ask:
    async def ask(client: AsyncOpenAI, model: str) -> Any:
        asked: Any = {"input": USER, "max_output_tokens": 40, **fields}
        return await _all(await client.responses.create(model=model, **asked))

    return ask


def _message(**fields: Any) -> AskClaude:
    async def ask(client: AsyncAnthropic, model: str) -> Any:
        asked: Any = {"messages": USER, "max_tokens": 40, **fields}
        return await _all(await client.messages.create(model=model, **asked))

    return ask


async def _count(client: AsyncAnthropic, model: str) -> Any:
    return await client.messages.count_tokens(model=model, messages=USER)


async def _claudes_model(client: AsyncAnthropic, model: str) -> Any:
    return await client.models.retrieve(model), (await client.models.list()).data


async def _model(client: AsyncOpenAI, model: str) -> Any:
    return await client.models.retrieve(model), (await client.models.list()).data


async def _counted(client: AsyncOpenAI, model: str) -> Any:
    return await client.responses.input_tokens.count(model=model, input="hi")


async def _all(answer: Any) -> Any:
    """The answer, or all of its events."""
    return [event async for event in answer] if hasattr(answer, "__aiter__") else answer


GENERATING: Mapping[str, Ask] = {
    "a chat": _chat(),
    "its stream": _chat(stream=True, stream_options=WITH_USAGE),
    "several choices": _chat(n=2),
    "their stream": _chat(n=2, stream=True, stream_options=WITH_USAGE),
    "a call": _chat(tools=TOOLS, tool_choice="required", max_tokens=40),
    "a call's stream": _chat(tools=TOOLS, tool_choice="required", max_tokens=40, stream=True),
    "a response": _response(),
    "a response's stream": _response(stream=True),
    "one that is cut": _response(**CUT),
    "a stream that is cut": _response(**CUT, stream=True),
    "one that calls": _response(tools=FLAT_TOOLS, tool_choice="required"),
    "a stream that calls": _response(tools=FLAT_TOOLS, tool_choice="required", stream=True),
    "models": _model,
}
PROBABLE: Mapping[str, Ask] = {
    "log-probabilities": _chat(logprobs=True, top_logprobs=2),
    "their stream": _chat(logprobs=True, top_logprobs=2, stream=True),
    "those of a text": _text(logprobs=2),
}
# The stream of a text has null in place of a reason until the end, at OpenAI, too. The client's
# types do not have that.
TEXTS: Mapping[str, Ask] = {
    "a text": _text(),
    "several": _text(prompt=["a", "b"], n=2),
}
COUNTED: Mapping[str, Ask] = {"tokens": _counted}
CLAUDES: Mapping[str, AskClaude] = {
    "a message": _message(),
    "its stream": _message(stream=True),
    "one that calls": _message(tools=CLAUDES_TOOLS, tool_choice={"type": "any"}),
    "a stream that calls": _message(tools=CLAUDES_TOOLS, tool_choice={"type": "any"}, stream=True),
    "one that is cut": _message(max_tokens=2),
    "tokens": _count,
    "models": _claudes_model,
}


async def _vectors(client: AsyncOpenAI, model: str) -> Any:
    """Not in base64, which the client checks before it decodes it."""
    return await client.embeddings.create(model=model, input=["a"], encoding_format="float")


async def _judged(client: AsyncOpenAI, model: str) -> Any:
    return await client.moderations.create(model=model, input="a")


VECTORS: Mapping[str, Ask] = {"vectors": _vectors}
JUDGED: Mapping[str, Ask] = {"moderations": _judged}


def _heard(**fields: Any) -> Callable[[bytes], Ask]:
    def of(sound: bytes) -> Ask:
        async def ask(client: AsyncOpenAI, model: str) -> Any:
            file = ("a.wav", sound)
            made = client.audio.transcriptions.create
            return await _all(await made(model=model, file=file, **fields))

        return ask

    return of


def _translated(sound: bytes) -> Ask:
    async def ask(client: AsyncOpenAI, model: str) -> Any:
        return await client.audio.translations.create(model=model, file=("a.wav", sound))

    return ask


HEARD: Mapping[str, Callable[[bytes], Ask]] = {
    "a transcription": _heard(),
    "its stream": _heard(stream=True),
    "a translation": _translated,
    "a verbose one": _heard(
        response_format="verbose_json", timestamp_granularities=["word", "segment"]
    ),
}


def _drawn(**fields: Any) -> Ask:
    async def ask(client: AsyncOpenAI, model: str) -> Any:
        made = client.images.generate
        return await _all(await made(model=model, prompt="a cat", size="64x64", **fields))

    return ask


def _edited(**fields: Any) -> Callable[[bytes], Ask]:
    def of(picture: bytes) -> Ask:
        async def ask(client: AsyncOpenAI, model: str) -> Any:
            asked: Any = {"image": ("a.png", picture), "prompt": "a cat", **fields}
            return await _all(await client.images.edit(model=model, **asked))

        return ask

    return of


EDITED: Mapping[str, Callable[[bytes], Ask]] = {
    "an edit": _edited(),
    "its stream": _edited(stream=True),
}
DRAWN: Mapping[str, Ask] = {
    "a picture": _drawn(),
    "one by its address": _drawn(response_format="url"),
    "a picture's stream": _drawn(stream=True),
}
