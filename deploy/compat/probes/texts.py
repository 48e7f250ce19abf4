"""Endpoints of texts. Every probe raises Unmet or Partial where the behaviour is missing."""

from __future__ import annotations

import math
import struct
from base64 import b64decode
from typing import Any

import orjson

from deploy.compat.rows import at, row
from deploy.compat.samples import COUNT
from deploy.compat.target import (
    CHAT,
    Partial,
    Refused,
    Target,
    Unmet,
    chat_body,
    granted,
    need,
    quoted,
    text_of,
)
from schemas.api import endpoints
from schemas.errors import ContextLengthExceeded

OLLAMA = f"{endpoints.OLLAMA}/chat"
_ENDS = ("stop", "length", "tool_calls", "content_filter")
_BEYOND = 64
"""By so many tokens the prompt is too long."""
_QUERY = "What brings water to the mill wheel?"
_DOCUMENTS = [
    "A recipe for onion soup.",
    "The headrace brings the water to the mill wheel.",
    "The train to the coast leaves at noon.",
]


@at(endpoints.CHAT, "a text of the model that was named")
async def chat(target: Target) -> str:
    found = await target.chat("Say hello.")
    choice = found["choices"][0]
    need(found["object"] == "chat.completion", f"the object is a {found['object']!r}")
    need(found["model"] == target.model, f"the answer names the model {found['model']!r}")
    need(choice["message"]["role"] == "assistant", "the message is not the assistant's")
    need(text_of(found).strip(), "the message is empty")
    need(choice["finish_reason"] in _ENDS, f"finish_reason is {choice['finish_reason']!r}")
    return f"it said {quoted(text_of(found))}"


@at(endpoints.COMPLETIONS, "the prompt is continued")
async def completions(target: Target) -> str:
    body = {"prompt": "The sun rises in the", "max_tokens": 8, "temperature": 0}
    found = await target.ask(endpoints.COMPLETIONS.path, body)
    choice = found["choices"][0]
    need(found["object"] == "text_completion", f"the object is a {found['object']!r}")
    need(choice["text"].strip(), "the text is empty")
    need(choice["finish_reason"] in _ENDS, f"finish_reason is {choice['finish_reason']!r}")
    return f"it went on with {quoted(choice['text'])}"


@at(endpoints.EMBEDDINGS, "the same text has the same vector, another text another one")
async def embeddings(target: Target) -> str:
    texts = ["a water wheel", "a water wheel", "an invoice for green paint"]
    found = await target.ask(endpoints.EMBEDDINGS.path, {"input": texts})
    need([each["index"] for each in found["data"]] == [0, 1, 2], "not one vector for each text")
    one, same, other = (each["embedding"] for each in found["data"])
    need(len(one) == len(same) == len(other), "the vectors are not of one length")
    need(all(math.isfinite(value) for value in one), "a value is no number")
    need(_cosine(one, same) > 0.999, "the same text got two vectors")
    need(_cosine(one, other) < 0.999, "two texts got the same vector")
    return f"{len(one)} numbers; the same for the same text, others for another one"


@row("embeddings: encoding_format base64", "the same numbers as without it")
async def base64(target: Target) -> str:
    body = {"input": "a water wheel"}
    floats = (await target.ask(endpoints.EMBEDDINGS.path, body))["data"][0]["embedding"]
    packed = await target.ask(endpoints.EMBEDDINGS.path, {**body, "encoding_format": "base64"})
    text = packed["data"][0]["embedding"]
    need(isinstance(text, str), "encoding_format did nothing: numbers came")
    raw = b64decode(text)
    need(len(raw) == 4 * len(floats), f"{len(raw)} bytes for {len(floats)} numbers")
    values = list(struct.unpack(f"<{len(floats)}f", raw))
    need(_cosine(values, floats) > 0.999, "they are other numbers than without it")
    return f"{len(raw)} bytes are the same {len(floats)} numbers"


@at(endpoints.RESPONSES, "a text, whole and streamed to its end")
async def responses(target: Target) -> str:
    body = {"input": "Say hello.", "max_output_tokens": 16, "temperature": 0}
    found = await target.ask(endpoints.RESPONSES.path, body)
    need(found["status"] in ("completed", "incomplete"), f"its status is {found['status']!r}")
    need(_response_text(found), "the output has no text")
    need(found["usage"]["output_tokens"] > 0, "the usage counts no output")
    events = await target.stream(endpoints.RESPONSES.path, body)
    last = events[-1]["type"]
    need(last in ("response.completed", "response.incomplete"), f"its stream ends with {last!r}")
    deltas = "".join(each["delta"] for each in events if each["type"].endswith("_text.delta"))
    need(deltas, "its stream has no text")
    return f"whole and streamed, it said {quoted(deltas)}"


@at(endpoints.MESSAGES, "a text, whole and streamed to its end")
async def messages(target: Target) -> str:
    body = {
        "messages": [{"role": "user", "content": "Say hello."}],
        "max_tokens": 16,
        "temperature": 0,
    }
    found = await target.ask(endpoints.MESSAGES.path, body)
    need((found["type"], found["role"]) == ("message", "assistant"), "it is no message")
    need(any(part.get("text") or part.get("thinking") for part in found["content"]), "it is empty")
    need(found["stop_reason"] in ("end_turn", "max_tokens"), f"stopped: {found['stop_reason']!r}")
    need(found["usage"]["output_tokens"] > 0, "the usage counts no output")
    events = await target.stream(endpoints.MESSAGES.path, body)
    kinds = [each["type"] for each in events]
    need(kinds[0] == "message_start", f"its stream begins with {kinds[0]!r}")
    need(kinds[-1] == "message_stop", f"its stream ends with {kinds[-1]!r}")
    need("content_block_delta" in kinds, "its stream has no text")
    return f"whole and streamed in {len(kinds)} events"


@row(f"POST {OLLAMA} (Ollama's)", "a text, whole and line by line to its end")
async def ollama(target: Target) -> str:
    body = {
        "messages": [{"role": "user", "content": "Say hello."}],
        "options": {"num_predict": 16, "temperature": 0},
    }
    found = await target.ask(OLLAMA, {**body, "stream": False})
    need(found["model"] == target.model, f"the answer names the model {found['model']!r}")
    need(found["message"]["content"], "the message is empty")
    need(found["done"] is True and found["eval_count"] > 0, "it counts no tokens")
    raw = granted(await target.post(OLLAMA, body)).body
    *lines, last = [orjson.loads(line) for line in raw.splitlines() if line.strip()]
    need(not any(line["done"] for line in lines), "a line says that it is the last, and is not")
    need(last["done"] is True, "its stream ends without a line that says so")
    text = "".join(line["message"]["content"] for line in (*lines, last))
    need(text, "its stream has no text")
    return f"whole and in {len(lines) + 1} lines, it said {quoted(text)}"


@at(endpoints.COUNT_TOKENS, "a longer text has more")
async def count_tokens(target: Target) -> str:
    counts = []
    for text in ("Say hello.", f"Say hello. {COUNT}"):
        body = {"messages": [{"role": "user", "content": text}]}
        found = await target.ask(endpoints.COUNT_TOKENS.path, body)
        counts.append(int(found["input_tokens"]))
    need(0 < counts[0] < counts[1], f"a longer text has not more tokens: {counts}")
    return f"{counts[0]} tokens, and {counts[1]} for a longer text"


@at(endpoints.MODERATIONS, "each text gets a verdict of its own")
async def moderations(target: Target) -> str:
    body = {"input": ["Say hello.", "I will beat you and kill you."]}
    results = (await target.ask(endpoints.MODERATIONS.path, body))["results"]
    need(len(results) == 2, f"{len(results)} results for two texts")
    for each in results:
        need(isinstance(each["flagged"], bool), f"flagged is {each['flagged']!r}")
        need(each["categories"].keys() == each["category_scores"].keys(), "a score is missing")
    return f"{len(results[0]['categories'])} categories, each with a score, for each text"


@at(endpoints.RERANK, "the document that answers comes first")
async def rerank(target: Target) -> str:
    body = {"query": _QUERY, "documents": _DOCUMENTS}
    results = (await target.ask(endpoints.RERANK.path, body))["results"]
    order = [each["index"] for each in results]
    scores = [float(each["relevance_score"]) for each in results]
    need(sorted(order) == [0, 1, 2], f"not one result for each document: {order}")
    need(scores == sorted(scores, reverse=True), f"they are not in order: {scores}")
    need(len(set(scores)) > 1, "all documents got the same score")
    if order[0] != 1:
        raise Partial(f"ranked, but {quoted(_DOCUMENTS[order[0]])} comes first for {_QUERY!r}")
    return "the document that answers the question comes first"


@at(endpoints.TOKENIZE, "one id for each token")
async def tokenize(target: Target) -> str:
    found = await target.ask(endpoints.TOKENIZE.path, {"content": _QUERY})
    ids = found["tokens"]
    need(ids and all(isinstance(each, int) for each in ids), f"the tokens are {ids!r}")
    need(found["count"] == len(ids), f"the count is {found['count']!r}")
    return f"{len(ids)} tokens"


@at(endpoints.DETOKENIZE, "the tokens of a text are this text")
async def detokenize(target: Target) -> str:
    tokens = (await target.ask(endpoints.TOKENIZE.path, {"content": _QUERY}))["tokens"]
    text = (await target.ask(endpoints.DETOKENIZE.path, {"tokens": tokens}))["content"]
    if text.strip().lower() != _QUERY.lower():  # models of embeddings know no capitals
        raise Partial(f"it is {quoted(text)} for the tokens of {_QUERY!r}")
    return "the text came back"


@at(endpoints.TEMPLATE, "a prompt with the words of the chat")
async def template(target: Target) -> str:
    chat = {"messages": [{"role": "user", "content": _QUERY}]}
    prompt = (await target.ask(endpoints.TEMPLATE.path, chat))["prompt"]
    need(_QUERY in prompt, f"the prompt is {quoted(prompt)}")
    return f"the prompt has {len(prompt)} letters"


@at(endpoints.OWN_COMPLETION, "the prompt is continued")
async def own_completion(target: Target) -> str:
    body = {"prompt": "The sun rises in the", "n_predict": 8, "temperature": 0}
    found = await target.ask(endpoints.OWN_COMPLETION.path, body)
    need(found["content"].strip(), "the text is empty")
    need(found["stop"] is True, f"stop is {found['stop']!r}")
    return f"it said {quoted(found['content'])}"


@row("prompt longer than the context: refused", "400 context_length_exceeded, and no silent cut")
async def too_long(target: Target) -> str:
    """Some engines cut such a prompt in silence."""
    size = target.facts.context
    path, body = _long(target, size + _BEYOND)
    if not size:
        await target.ask(*_long(target, 1))  # a model that refuses any prompt says why
        raise Partial("not tried: the engine does not say how long its context is")
    answer = await target.post(path, body)
    if answer.status == 200:
        used = answer.json["usage"]["prompt_tokens"]
        raise Unmet(f"{size + _BEYOND} words were cut to {used} tokens, without a word of it")
    refused = Refused(answer.status, answer.json["error"])
    code = refused.error["code"]
    need((answer.status, code) == (400, ContextLengthExceeded.code), refused.reason)
    return refused.reason


def _long(target: Target, words: int) -> tuple[str, dict[str, Any]]:
    """(path, body) of a request whose prompt is of so many words, each of them one token."""
    text = " a" * words
    if "embeddings" in target.facts.features and "chat" not in target.facts.features:
        return endpoints.EMBEDDINGS.path, {"input": text}
    return CHAT, chat_body(text, max_tokens=1)


def _response_text(found: Any) -> str:
    parts = [part for item in found["output"] for part in item.get("content") or ()]
    return "".join(part.get("text") or "" for part in parts)


def _cosine(a: list[float], b: list[float]) -> float:
    norm = math.hypot(*a) * math.hypot(*b)
    return sum(x * y for x, y in zip(a, b, strict=True)) / norm if norm else 0.0
