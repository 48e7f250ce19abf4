"""vLLM 0.32.0, from its recorded answers (`data/vllm.json`).

    python -m tests.doubles.vllm.server --port 0 --token-ms 20

A word is a token; an answer repeats the last user message until `max_tokens`. More requests than
`max_num_seqs` wait, and a stream that waits has its head already. A client that leaves frees its
place at once, streaming or not. Fields it does not know are passed over.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from aiohttp import web

from tests.doubles.base import DONE, Sim, Slots, document, main, sse, stream, words_of
from tests.doubles.vllm import faults, pooling
from tests.doubles.vllm.faults import Refused
from tests.doubles.vllm.wire import MODELS, Answer, calls_of, compose

EVENTS = "text/event-stream; charset=utf-8"
_DEAD = "EngineCore encountered an issue. See stack trace (above) for the root cause."


class Vllm(Sim):
    """`parser`: started with a tool call parser. `embeds`: with an embedding model, so that there
    is no chat. `judges`: with a model for classes and scores, likewise. `senses`: vision, audio.
    `dead`: its engine process has crashed. `begins`: what it was asked to go on from, for each
    request that set `continue_final_message`. `structured`: what each chat asked an answer to be.
    `thinks`: said as `reasoning` before a chat's answer, as with a reasoning parser."""

    headers: ClassVar = {"server": "uvicorn", "vary": "Origin"}

    def __init__(
        self,
        model: str = "tiny",
        *,
        context: int = 1024,
        max_num_seqs: int = 4,
        parser: bool = False,
        senses: tuple[str, ...] = (),
        embeds: bool = False,
        judges: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        self.context = context
        self.slots = Slots(max_num_seqs)
        self.parser = parser
        self.senses = senses
        self.embeds = embeds
        self.judges = judges
        self.dead = False
        self.begins: list[str] = []
        self.structured: list[Any] = []
        self.thinks = ""
        self.concurrency = 512.0

    def routes(self) -> list[web.RouteDef]:
        own = (
            self._pooling()
            if self.embeds or self.judges
            else [
                web.post("/v1/chat/completions", self._chat),
                web.post("/v1/completions", self._completions),
                web.post("/v1/responses", self._responses),
                web.post("/v1/messages", self._messages),
                web.post("/v1/messages/count_tokens", self._count),
            ]
        )
        return [
            web.get("/health", self._health),
            web.get("/ping", self._health),
            web.get("/version", self._version),
            web.get("/metrics", self._metrics),
            web.get("/v1/models", self._models),
            web.post("/tokenize", self._tokenize),
            web.post("/detokenize", self._detokenize),
            *own,
        ]

    def _pooling(self) -> list[web.RouteDef]:
        """A model for vectors scores texts by how near these are."""
        score = [web.post(f"{v}/score", self._pooled(pooling.scores)) for v in ("", "/v1")]
        special = (
            web.post("/classify", self._pooled(pooling.classes))
            if self.judges
            else web.post("/v1/embeddings", self._embeddings)
        )
        return [special, web.post("/pooling", self._pooled(pooling.pooled)), *score]

    def _pooled(
        self, say: Callable[[dict[str, Any], str], dict[str, Any]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def answer(request: web.Request) -> web.StreamResponse:
            try:
                asked = faults.validated(await request.read(), request.path)
                self._check_model(asked)
                return document(say(asked, self.model))
            except Refused as fault:
                return fault.response()

        return answer

    def missing(self, fault: web.HTTPException) -> web.Response:
        return document({"detail": fault.reason}, fault.status)

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(status=503 if self.dead else 200)

    async def _version(self, request: web.Request) -> web.Response:
        return document({"version": "0.32.0"})

    async def _models(self, request: web.Request) -> web.Response:
        entry = {**MODELS["data"][0], "id": self.model, "max_model_len": self.context}
        return document({**MODELS, "data": [entry]})

    async def _metrics(self, request: web.Request) -> web.Response:
        label = f'{{engine="0",model_name="{self.model}"}}'
        text = (
            "# HELP vllm:num_requests_running Number of requests in model execution batches.\n"
            f"vllm:num_requests_running{label} {float(self.slots.running)}\n"
            f"vllm:num_requests_waiting{label} {float(self.slots.waiting)}\n"
            'vllm:cache_config_info{block_size="128",engine="0",'
            f'kv_cache_max_concurrency="{self.concurrency}",num_gpu_blocks="4096"}} 1.0\n'
        )
        return document(text.encode(), 200, "text/plain; version=1.0.0; charset=utf-8")

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        def read(asked: dict[str, Any]) -> tuple[str, list[str]]:
            faults.check_chat(asked, self.model, self.parser, self.senses)
            text = faults.text_of(asked["messages"])
            self.structured.append(asked.get("structured_outputs"))
            users = [m for m in asked["messages"] if m.get("role") != "assistant"]
            if asked.get("continue_final_message"):
                self.begins.append(faults.text_of(asked["messages"][-1:]))
            return text, words_of((users or [{}])[-1].get("content"))

        return await self._serve(request, read, self._tell_chat)

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        def read(asked: dict[str, Any]) -> tuple[str, list[str]]:
            prompt = asked.get("prompt")
            if not prompt:
                why = "Either prompt or prompt_embeds must be provided and non-empty."
                raise Refused(f"{why} (parameter=prompt)", param="prompt")
            if asked.get("suffix"):
                why = "suffix is only supported for models with FIM completion rendering"
                raise Refused(why, param="suffix")
            parts = prompt if isinstance(prompt, list) else [prompt]
            text = " ".join(str(part) for part in parts)
            return text, text[: len(text) - len(faults.begun_text(text))].split()

        return await self._serve(request, read, self._tell_text)

    async def _responses(self, request: web.Request) -> web.StreamResponse:
        def read(asked: dict[str, Any]) -> tuple[str, list[str]]:
            faults.check_items(asked)
            given = asked["input"]
            text = given if isinstance(given, str) else faults.text_of(given)
            return text, text.split()

        return await self._serve(request, read, self._tell_events)

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        def read(asked: dict[str, Any]) -> tuple[str, list[str]]:
            faults.check_blocks(asked)
            text = faults.text_of(asked["messages"])
            return text, text.split()

        return await self._serve(request, read, self._tell_events)

    async def _count(self, request: web.Request) -> web.StreamResponse:
        try:
            asked = faults.validated(await request.read(), request.path)
            self._check_model(asked, anthropic=True)
        except Refused as fault:
            return fault.response()
        count = len(faults.text_of(asked.get("messages") or []).split()) + 14
        return document({"input_tokens": count})

    async def _tokenize(self, request: web.Request) -> web.StreamResponse:
        """Of a prompt, or of a chat as its template puts it."""
        try:
            asked = faults.validated(await request.read(), request.path)
            self._check_model(asked)
            if (prompt := asked.get("prompt")) is not None:
                count = len(str(prompt).split())
            else:
                faults.check_chat(asked, self.model, self.parser, self.senses)
                count = faults.prompt_tokens(asked, faults.text_of(asked["messages"]))
        except Refused as fault:
            return fault.response()
        told = {"count": count, "max_model_len": self.context, "tokens": list(range(count))}
        return document({**told, "token_strs": None})

    async def _detokenize(self, request: web.Request) -> web.StreamResponse:
        """One word a token; the model may be left out, as recorded."""
        try:
            asked = faults.validated(await request.read(), request.path)
            if "model" in asked:
                self._check_model(asked)
        except Refused as fault:
            return fault.response()
        return document({"prompt": " ".join(f"w{token}" for token in asked["tokens"])})

    async def _embeddings(self, request: web.Request) -> web.StreamResponse:
        try:
            asked = faults.validated(await request.read(), request.path)
            self._check_model(asked)
            given = asked.get("input")
            if given is None:
                raise Refused("1 validation error:\n  {'type': 'missing', 'loc': 'body.input'}")
        except Refused as fault:
            return fault.response()
        inputs = given if isinstance(given, list) else [given]
        data = [
            {"index": i, "object": "embedding", "embedding": [0.5, 0.25]}
            for i in range(len(inputs))
        ]
        count = sum(len(str(text).split()) for text in inputs)
        usage = {"prompt_tokens": count, "total_tokens": count, "completion_tokens": 0}
        ident = f"embd-{secrets.token_hex(8)}"
        return document(
            {"id": ident, "object": "list", "model": self.model, "data": data, "usage": usage}
        )

    async def _serve(
        self,
        request: web.Request,
        read: Callable[[dict[str, Any]], tuple[str, list[str]]],
        tell: Callable[..., Any],
    ) -> web.StreamResponse:
        """Check, then wait for a place and answer."""
        try:
            asked = faults.validated(await request.read(), request.path)
            self._check_model(asked)
            text, words = read(asked)
            prompt = faults.prompt_tokens(asked, text)
            size = faults.rendered_size(asked["messages"]) if asked.get("messages") else len(text)
            faults.check_lengths(asked, size, prompt, self.context)
            faults.check_sampling(asked)
            if self.dead:
                raise Refused(_DEAD, "InternalServerError", status=500)
        except Refused as fault:
            return fault.response()
        given = request.headers.get("X-Request-Id") or secrets.token_hex(8)
        start = "cmpl" if request.path == "/v1/completions" else "chatcmpl"
        answer = compose(asked, f"{start}-{given}", words, prompt, len(faults.begun(asked).split()))
        if asked.get("stream"):
            response = await stream(request, EVENTS)
            async with self._place():
                await tell(request, asked, answer, response)
            return response
        async with self._place():
            for index in range(max(map(len, answer.choices))):
                if not await self.tick(index):
                    return Refused(_DEAD, "InternalServerError", status=500).response()
            return document(await tell(request, asked, answer, None))

    def _check_model(self, asked: dict[str, Any], anthropic: bool = False) -> None:
        model = asked.get("model")
        if model not in (None, self.model):
            why = f"The model `{model}` does not exist. Valid aliases: {self.model}."
            raise Refused(why, "NotFoundError", "model", 404, anthropic)

    # The four shapes of an answer: a document, or events to an open stream.

    async def _tell_chat(
        self,
        request: web.Request,
        asked: dict[str, Any],
        answer: Answer,
        response: web.StreamResponse | None,
    ) -> Any:
        calls = calls_of(asked)
        if response is None:
            return answer.chat(calls, self.thinks)
        await response.write(answer.chat_head(self.thinks))
        if calls:
            await response.write(answer.chat_calls(calls))
        elif not await self._words(response, answer, answer.chat_word):
            return None
        return await self._close(response, answer, chat=True)

    async def _tell_text(
        self,
        request: web.Request,
        asked: dict[str, Any],
        answer: Answer,
        response: web.StreamResponse | None,
    ) -> Any:
        if response is None:
            return answer.text()
        if not await self._words(response, answer, answer.text_word):
            return None
        return await self._close(response, answer, chat=False)

    async def _tell_events(
        self,
        request: web.Request,
        asked: dict[str, Any],
        answer: Answer,
        response: web.StreamResponse | None,
    ) -> Any:
        messages = request.path == "/v1/messages"
        if response is None:
            return answer.message() if messages else answer.response()
        head, middle, tail = answer.message_events() if messages else answer.response_events()
        await response.write(b"".join(head))
        for index, event in enumerate(middle):
            if not await self.tick(index):
                return None
            await response.write(event)
        await response.write(b"".join(tail))
        return None

    async def _words(
        self, response: web.StreamResponse, answer: Answer, chunk: Callable[..., bytes]
    ) -> bool:
        """Word by word, all choices in step; False after an error event (and ``[DONE]``)."""
        for at in range(len(answer.choices[0])):
            if not await self.tick(at):
                error = {"message": _DEAD, "type": "InternalServerError", "param": None}
                await response.write(sse({"error": {**error, "code": 500}}) + DONE)
                return False
            for index in range(len(answer.choices)):
                await response.write(chunk(index, at))
        return True

    async def _close(self, response: web.StreamResponse, answer: Answer, chat: bool) -> None:
        if answer.counted:
            await response.write(answer.closing(chat))
        await response.write(DONE)

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        async with self.slots.one():
            await self.note("started", self.model)
            yield


if __name__ == "__main__":
    main(Vllm(parser=True))
