"""How Ollama's own API answers: models, slots, cutting of prompts, chunks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import orjson

from tests.doubles.base import Sim, Slots, instance, words_of

STAMP = "2026-08-21T18:48:22.123456Z"
KEEP = 4
"""`num_keep`'s default: tokens that a cut prompt keeps of its beginning."""
_VERB = {"message": "chat", "response": "generate"}


@dataclass(slots=True)
class Model:
    """`num_ctx`: what it is loaded with. `remote`: a host that it is only forwarded to. `closes`:
    its template ends each message, so that no answer can be begun."""

    name: str
    capabilities: tuple[str, ...] = ("completion", "tools")
    num_ctx: int = 4096
    parameters: str = ""
    remote: str = ""
    loaded: bool = False
    closes: bool = False


class NativeError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Core(Sim):
    """Ollama without its pages."""

    def __init__(self, models: tuple[Model, ...], parallel: int, max_queue: int) -> None:
        super().__init__()
        self.models = {m.name: m for m in models}
        self.slots = Slots(parallel)
        self.max_queue = max_queue
        self.load_s = 0.0
        self.prompts: list[str] = []
        """What the model really was given, after cutting."""

    async def embed(self, asked: dict[str, Any]) -> dict[str, Any]:
        model = self._model(asked)
        given = asked.get("input")
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise NativeError(400, "invalid input type")
        counts = []
        async with self._slot(model):
            for text in texts:
                words = words_of(text)
                if len(words) > model.num_ctx and asked.get("truncate") is False:
                    raise NativeError(400, "the input length exceeds the context length")
                self.prompts.append(" ".join(words[: model.num_ctx]))
                counts.append(min(len(words), model.num_ctx))
        size = int(asked.get("dimensions") or 4)
        vectors = [[round(1 / (1 + len(t) + i), 6) for i in range(size)] for t in texts]
        return {
            "model": asked["model"],
            "embeddings": vectors,
            "total_duration": 1,
            "load_duration": 1,
            "prompt_eval_count": sum(counts),
        }

    async def generate(self, asked: dict[str, Any], key: str) -> AsyncIterator[dict[str, Any]]:
        """Chunks of ``/api/chat`` (`key` message) or ``/api/generate`` (response)."""
        model = self._model(asked)
        if "completion" not in model.capabilities:
            raise NativeError(400, f'"{asked["model"]}" does not support {_VERB[key]}')
        if not asked.get("prompt") and not asked.get("messages"):
            reason = "unload" if asked.get("keep_alive") == 0 else "load"
            yield {**_chunk(asked, key, ""), "done": True, "done_reason": reason}
            return
        if asked.get("tools") and "tools" not in model.capabilities:
            name = f"registry.ollama.ai/library/{model.name}"
            raise NativeError(400, f"{name} does not support tools")
        async with self._slot(model):
            prompt = self._prompt(asked, key, model)
            self.prompts.append(" ".join(prompt))
            options = asked.get("options") or {}
            answer, reason = _answer(asked, key, options, 0 if model.closes else _begun(asked))
            calls = _calls(asked) if key == "message" else []
            for index, word in enumerate([] if calls else answer):
                if not await self.tick(index):
                    raise NativeError(500, "an error was encountered while running the model")
                yield _chunk(asked, key, word)
            if calls:
                yield _chunk(asked, key, "", {"tool_calls": calls})
            counts = (len(prompt), 1 if calls else len(answer))
            yield {**_chunk(asked, key, ""), **_done("stop" if calls else reason, *counts)}

    def _model(self, asked: dict[str, Any]) -> Model:
        name = str(asked.get("model") or "")
        if not name:
            raise NativeError(400, "model is required")
        found = self.models.get(name) or self.models.get(f"{name}:latest")
        if found is None:
            raise NativeError(404, f"model '{name}' not found")
        return found

    def _slot(self, model: Model) -> Any:
        if self.slots.waiting >= self.max_queue:
            busy = "server busy, please try again.  maximum pending requests exceeded"
            raise NativeError(503, busy)
        return _Loaded(self, model)

    def _prompt(self, asked: dict[str, Any], key: str, model: Model) -> list[str]:
        """The words that the model is given: whole messages go first, then the prompt's middle."""
        messages = asked.get("messages") or [{"role": "user", "content": asked.get("prompt")}]
        cut = asked.get("truncate") is not False
        while cut and len(_rendered(messages, model)) > model.num_ctx and len(messages) > 1:
            first = next((m for m in messages[:-1] if m["role"] != "system"), messages[0])
            messages = [m for m in messages if m is not first]
        words = _rendered(messages, model)
        if len(words) < model.num_ctx:
            return words
        if not cut:
            raise NativeError(400, _too_long(len(words), model.num_ctx))
        limit = model.num_ctx - (model.num_ctx - KEEP) // 2
        return words[:KEEP] + words[-(limit - KEEP) :]


class _Loaded:
    """A slot of a model; the first request loads it."""

    def __init__(self, server: Core, model: Model) -> None:
        self._server, self._model = server, model
        self._slot = server.slots.one()

    async def __aenter__(self) -> None:
        await self._slot.__aenter__()
        if not self._model.loaded:
            await asyncio.sleep(self._server.load_s)
            self._model.loaded = True
        await self._server.note("started", self._model.name)

    async def __aexit__(self, *fault: Any) -> None:
        await self._slot.__aexit__(*fault)
        await asyncio.shield(self._server.note("finished", self._model.name))


async def whole(chunks: AsyncIterator[dict[str, Any]], key: str) -> dict[str, Any]:
    """The document that the chunks amount to."""
    text = ""
    calls: list[Any] = []
    last: dict[str, Any] = {}
    async for last in chunks:
        part = last[key]
        text += part if isinstance(part, str) else part["content"]
        calls += [] if isinstance(part, str) else part.get("tool_calls", [])
    if key == "response":
        return {**last, key: text}
    more = {"tool_calls": calls} if calls else {}
    return {**last, key: {"role": "assistant", "content": text, **more}}


def _begun(asked: dict[str, Any]) -> int:
    """How many words of its answer are there already, as a last message."""
    last = (asked.get("messages") or [{}])[-1]
    return len(words_of(last.get("content"))) if last.get("role") == "assistant" else 0


def _answer(
    asked: dict[str, Any], key: str, options: dict[str, Any], begun: int
) -> tuple[list[str], str]:
    users = [m for m in asked.get("messages") or () if m["role"] == "user"]
    words = words_of(users[-1]["content"] if users else asked.get("prompt")) or ["silence"]
    form = asked.get("format")
    if form:
        made = instance(form) if isinstance(form, dict) else {"answer": words[0]}
        words = [orjson.dumps(made).decode()]
    pieces = [word if index == 0 else f" {word}" for index, word in enumerate(words)]
    for index, word in enumerate(words):
        if word in (options.get("stop") or ()):
            pieces = pieces[:index]
            break
    pieces = pieces[begun:]
    limit = int(options.get("num_predict", -1))
    if 0 <= limit < len(pieces):
        return pieces[:limit], "length"
    return pieces, "stop"


def _calls(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """A call of each tool whose name the last message says."""
    said = words_of((asked.get("messages") or [{}])[-1].get("content"))
    functions = [tool["function"] for tool in asked.get("tools") or ()]
    calls: list[dict[str, Any]] = []
    for index, function in enumerate(each for each in functions if each["name"] in said):
        arguments = instance(function.get("parameters") or {"type": "object"})
        call = {"index": index, "name": function["name"], "arguments": arguments}
        calls.append({"id": f"call_abcd{1234 + index}", "function": call})
    return calls


def _rendered(messages: list[dict[str, Any]], model: Model) -> list[str]:
    """The answer's own head is not counted: it stands before a begun answer, too."""
    words = [word for m in messages for word in (f"<{m['role']}>", *words_of(m.get("content")))]
    if messages[-1]["role"] != "assistant":
        return words
    if model.closes:
        return [*words, "<end>", "<assistant>"]
    words.remove("<assistant>")
    return words


def _too_long(count: int, context: int) -> str:
    """What its runner (a llama-server) answered, whole."""
    said = f"request ({count} tokens) exceeds the available context size ({context} tokens)"
    error = {
        "code": 400,
        "message": f"{said}, try increasing it",
        "type": "exceed_context_size_error",
        "n_prompt_tokens": count,
        "n_ctx": context,
    }
    return orjson.dumps({"error": error}).decode()


def _chunk(
    asked: dict[str, Any], key: str, text: str, more: dict[str, Any] | None = None
) -> dict[str, Any]:
    part: Any = {"role": "assistant", "content": text, **(more or {})}
    shown = text if key == "response" else part
    return {"model": asked["model"], "created_at": STAMP, key: shown, "done": False}


def _done(reason: str, prompt: int, completion: int) -> dict[str, Any]:
    return {
        "done": True,
        "done_reason": reason,
        "total_duration": 4_000_000,
        "load_duration": 1_000_000,
        "prompt_eval_count": prompt,
        "prompt_eval_duration": 1_000_000,
        "eval_count": completion,
        "eval_duration": 2_000_000,
    }
