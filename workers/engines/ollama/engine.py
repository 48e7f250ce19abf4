"""Ollama, after its source at fb30760 (August 2026), not measured on a binary.

The worker uses its OpenAI endpoints, and makes up for these differences:

- Ollama does not know `max_completion_tokens`, so it is sent as `max_tokens`. For
  ``tool_choice: "none"`` the tools are removed; other choices are tried. Requests with other
  fields that Ollama ignores are refused (`ignored_fields`).
- Ollama silently cuts prompts that are too long, and its OpenAI endpoints cannot switch this off.
  So a request that may be too long (more than two bytes for each token of context) is first sent
  to Ollama's own API, with ``truncate: false`` and one token to generate. The real request then
  finds the prompt in the cache. Embeddings always go to Ollama's own API.
- Only Ollama's own API has `keep_alive`. Embeddings carry it; after other answers it follows in a
  request without a prompt, as Ollama documents it.
- Ollama draws ids from 999 numbers, so chats and completions get the job's id.
- Models that Ollama forwards to a remote host are served only if the config names them.

Ollama does not tell its parallelism (OLLAMA_NUM_PARALLEL), so the default is one slot. A model's
context length is known while the model is loaded or if its Modelfile sets `num_ctx`; else it is 0.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, ClassVar

import orjson
import structlog

from schemas.api import endpoints, piecewise, piecewise_write
from schemas.api.base import NO_ANSWER, Usage
from schemas.api.ollama.models import CAPABILITIES, tagged
from schemas.jobs import Job
from schemas.nodes import Ignored, ServedModel, resuming
from workers.engines import digest
from workers.engines.base import EngineFault, Offer, Sink
from workers.engines.ollama import own_api
from workers.engines.ollama.answer import AnswerId, embeddings
from workers.engines.ollama.request import changes
from workers.engines.openai import continued, foreign_fields, parsed
from workers.engines.openai.engine import ASK_TIMEOUT, PROBE_TIMEOUT, OpenAIEngine
from workers.engines.openai.refusal import JSON, Refusal
from workers.engines.openai.required_call import LEFT_OPEN
from workers.engines.openai.stream import says
from workers.engines.openai.whole_answer import unlike

log = structlog.get_logger("ollama")

SMALLEST_CONTEXT = 2048
"""Tokens; the smallest default context of any version."""
BYTES_PER_TOKEN = 2
"""Real texts have more bytes per token than this."""

_OPEN_TOKENS = 4
"""Most tokens of the three words in `continued.BEGUN`. A message that is closed has at least two
more, which end it, and those that begin the answer."""

_UNKNOWN = (
    *("template", "truncate"),  # fields of its own API
    *("cache_prompt", "return_progress", "timings_per_token"),  # fields of llama-server
)
KNOWS = (
    "chat,completions,embeddings,responses,messages keep_alive",
    "chat reasoning think",
)
"""Ollama's own fields; this module handles `keep_alive`."""
_KEEP = b'"keep_alive"'
_NOT_KNOWN = "Ollama's OpenAI endpoints do not know it"
_CAPABILITIES: Mapping[str, tuple[str, ...]] = {
    **CAPABILITIES,
    "completion": ("chat", "completions", "responses", "messages", "json_schema", "logprobs"),
}
_GENERATES: Mapping[str, str] = {
    endpoints.CHAT.path: "/api/chat",
    endpoints.COMPLETIONS.path: "/api/generate",
    endpoints.RESPONSES.path: "/api/chat",
    endpoints.MESSAGES.path: "/api/chat",
}


class OllamaEngine(OpenAIEngine):
    kind = "ollama"
    default_slots: ClassVar[int] = 1
    check_timeout: ClassVar[float] = 300.0
    """Seconds: the first job loads the model."""
    ignored_fields: ClassVar[tuple[Ignored, ...]] = (
        Ignored("n", "Ollama gives one choice", unless=(1,)),
        Ignored(
            "tool_choice",
            "Ollama leaves it to the model whether it calls a tool",
            ("chat", "responses", "messages"),
            LEFT_OPEN,
            tried=True,
        ),
        Ignored("logit_bias", "Ollama has no such thing"),
        Ignored("functions", "use tools"),
        Ignored("function_call", "use tools"),
        Ignored("audio", "Ollama does not speak"),
        Ignored("best_of", "Ollama gives one choice", ("completions",), (1,), "n"),
        Ignored("echo", "Ollama does not repeat the prompt", ("completions",)),
        Ignored("logprobs", "Ollama leaves them out of text completions", ("completions",), ()),
        *(Ignored(name, _NOT_KNOWN) for name in _UNKNOWN),
        Ignored("web_search_options", _NOT_KNOWN, unless=()),
        Ignored("modalities", "the model only writes", ("chat",), (["text"],)),
        *foreign_fields.passed_over(KNOWS),
    )

    async def check(self) -> Offer | None:
        await super().check()
        # The model is loaded now, so Ollama tells its context.
        return await self.discover() if self._models else None

    async def _list(self) -> dict[str, dict[str, Any]]:
        found = await self._http.json("/api/tags", PROBE_TIMEOUT)
        try:
            entries = {str(entry["name"]): entry for entry in found["models"] or ()}
        except (KeyError, TypeError):
            why = f"{self.name} does not list models like Ollama: is the URL right?"
            raise EngineFault(why, away=True) from None
        wanted = {tagged(name) for name in self._config.models}
        return {
            name: entry
            for name, entry in entries.items()
            if name in wanted or not entry.get("remote_host")
        }

    def _find(self, name: str, listed: Mapping[str, Any]) -> str:
        full = tagged(name)
        return full if full in listed else super()._find(name, listed)

    async def _describe(
        self, public: str, own: str, entry: dict[str, Any], slots: int
    ) -> ServedModel:
        status, body = await self._http.post("/api/show", {"model": own}, ASK_TIMEOUT)
        try:
            shown = orjson.loads(body)
            told = [str(word) for word in shown.get("capabilities") or ("completion",)]
        except (orjson.JSONDecodeError, AttributeError, TypeError):
            status, told, shown = 0, [], {}
        if status != 200:
            raise EngineFault(f"{self.name} answered {status} to /api/show of {own}", away=True)
        features = [word for name in told for word in _CAPABILITIES.get(name, ())]
        senses = tuple(name for name in ("vision", "audio") if name in told)
        loaded = await self._loaded_context(own)
        context = loaded or _set_context(shown.get("parameters"))
        if loaded and "chat" in features and await self._goes_on(own):
            features.append(resuming(endpoints.CHAT.path))
        modalities = ("text", *senses)
        return ServedModel(
            public,
            self.name,
            self.kind,
            slots,
            context,
            modalities,
            tuple(features),
            (*self.ignored_fields, *(() if "thinking" in told else foreign_fields.NO_THOUGHTS)),
            KNOWS,
            await digest.find(self._config, entry.get("digest")),
        )

    async def _goes_on(self, own: str) -> bool:
        """Whether the model's template leaves an assistant's last message open: then each word of
        it adds its own tokens to the prompt, and nothing else does. A model that is not loaded is
        not asked, as that would load it."""
        asked = await self._prompt_tokens(own, continued.ASKED["messages"])
        begun = await self._prompt_tokens(own, continued.BEGUN["messages"])
        return 0 < begun - asked <= _OPEN_TOKENS

    async def _prompt_tokens(self, own: str, messages: list[dict[str, str]]) -> int:
        body = {"model": own, "messages": messages, "max_tokens": 1}
        status, answer = await self._http.post(endpoints.CHAT.path, body, self.check_timeout)
        try:
            return int(orjson.loads(answer)["usage"]["prompt_tokens"]) if status == 200 else 0
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            return 0

    async def _serve(self, job: Job, body: bytes, sink: Sink) -> Usage | None:
        if job.endpoint != endpoints.EMBEDDINGS.path:
            kept = own_api.kept(parsed.load(body)) if says(body, _KEEP) else None
            usage = await super()._serve(job, body, AnswerId(sink, job.id))
            if kept is not None:
                await self._keep(self._own[job.model], kept)
            return usage
        request = parsed.load(await self._prepare(job, body))
        own_api.kept(request)  # refuses one that is malformed
        known = ("model", "input", "dimensions", "keep_alive")
        asked = {key: request[key] for key in known if request.get(key) is not None}
        own = await parsed.written({**asked, "truncate": False}, body)
        status, answer = await self._http.ask("POST", "/api/embed", None, own, JSON)
        if status != 200:
            raise self._refused(job, status, answer)
        try:
            tokens, listed = embeddings(await piecewise.load(answer), request)
            document = await piecewise_write.dump(listed)
        except (*NO_ANSWER, struct.error):
            raise unlike(self.name, "something that is no embedding", answer) from None
        sink.start(200, JSON)
        sink.data(document)
        await sink.settle()
        return Usage(tokens, 0, 0)

    async def _keep(self, own: str, kept: Any) -> None:
        """Tell how long the model stays loaded. The answer is out, so a failure is only logged."""
        try:
            asked = {"model": own, "keep_alive": kept}  # without a prompt, it generates nothing
            status, answer = await self._http.post("/api/generate", asked, ASK_TIMEOUT)
        except EngineFault as fault:
            status, answer = 0, fault.message.encode()
        if status != 200:
            error = answer.decode(errors="replace")
            log.warning("ollama.not_kept", engine=self.name, model=own, error=error)

    def _changes(self, job: Job, request: Mapping[str, Any]) -> dict[str, Any]:
        thinks = "reasoning" in self._models[job.model].features
        return super()._changes(job, request) | changes(job.endpoint, request, thinks)

    async def _guard(self, job: Job, request: Mapping[str, Any]) -> None:
        """Raises Refusal for what Ollama would cut short, run on with or misunderstand."""
        _need_texts(job, request)
        if job.endpoint == endpoints.COMPLETIONS.path and request.get("max_tokens") == 0:
            raise Refusal("Ollama takes 0 for no limit.", param="max_tokens")
        path = _GENERATES.get(job.endpoint)
        size = own_api.text_bytes(request)
        # Fits any context, so that nothing need be asked for most requests.
        if path is None or size <= BYTES_PER_TOKEN * SMALLEST_CONTEXT:
            return
        loaded = await self._loaded_context(self._own[job.model])
        context = loaded or self._models[job.model].context or SMALLEST_CONTEXT
        if size <= BYTES_PER_TOKEN * context:
            return
        own: dict[str, Any] = {
            "model": self._own[job.model],
            "truncate": False,
            "stream": False,
            "options": {"num_predict": 1},
        }
        try:
            own |= own_api.native(request)
        except (AttributeError, TypeError):
            return  # Ollama itself will say what is wrong with the messages
        status, body = await self._http.post(path, own, self.check_timeout)
        refusal = self._refused(job, status, body) if status != 200 else None
        # The answer to the real request will show any other fault.
        if isinstance(refusal, Refusal) and refusal.code == "context_length_exceeded":
            raise refusal

    def _explain(self, job: Job, refusal: Refusal) -> Refusal:
        if refusal.code == "context_length_exceeded":
            refusal.param = endpoints.BY_PATH[job.endpoint].api.prompt
        return refusal

    def _doubt(self, status: int) -> bool:
        """503 means only a full queue (OLLAMA_MAX_QUEUE): the engine is well."""
        return status in (502, 504)

    async def _loaded_context(self, own: str) -> int:
        found = await self._http.json("/api/ps", PROBE_TIMEOUT)
        try:
            loaded = {entry["name"]: entry.get("context_length") for entry in found["models"]}
            return int(loaded.get(own) or 0)
        except (AttributeError, KeyError, TypeError, ValueError):
            return 0


def _need_texts(job: Job, request: Mapping[str, Any]) -> None:
    param = endpoints.BY_PATH[job.endpoint].api.prompt
    said = request.get(param)
    if isinstance(said, list) and said and isinstance(said[0], int | list):
        raise Refusal("Ollama takes texts, and no token ids.", param=param)


def _set_context(parameters: object) -> int:
    """`num_ctx` of a Modelfile, whose ``parameters`` hold a name and a value in each line."""
    for line in str(parameters or "").splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == "num_ctx" and words[1].isdigit():
            return int(words[1])
    return 0
