"""vLLM, as measured on 0.32.0.

It stops generating 0.13 s after its client has left, streaming or not, so requests go unchanged.
llama-server and Ollama continue a trailing assistant message; vLLM does so only if told
(`continue_final_message`), so the worker tells it. Its errors carry names of Python classes as
`type`, numbers as `code`, and pydantic's errors, printed, as `message`.

vLLM does not tell how many sequences it runs at once (``--max-num-seqs``); more wait in its own
unbounded queue. The default is as many slots as full contexts fit into its cache, at most 32.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from schemas.api import endpoints, piecewise, rerank, tokens
from schemas.api.base import Usage
from schemas.api.reasoning import UNSAID
from schemas.jobs import Job
from schemas.nodes import Ignored, ServedModel, resuming
from workers.engines import digest
from workers.engines.base import Offer, Sink
from workers.engines.openai import continued, foreign_fields, parsed
from workers.engines.openai.engine import PROBE_TIMEOUT, OpenAIEngine
from workers.engines.openai.refusal import Refusal, translate

_CONCURRENCY = re.compile(
    rb'^vllm:cache_config_info\{[^}]*kv_cache_max_concurrency="([0-9.]+)"', re.M
)
_STARTED = re.compile(rb"^process_start_time_seconds ([0-9.e+]+)", re.M)
_SUFFIX = re.compile(r" \(parameter=\w+(, value=.*)?\)$", re.DOTALL)
"""At the end of a message: the field, which stands in `param`, too."""
_UNION = re.compile(r"\.[A-Z]")
"""A step in the place of an error that is a class of Python, and so a member of a union."""
_SENSES: Mapping[str, dict[str, Any]] = {
    "vision": {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
    "audio": {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
}
"""The first bytes of a PNG and of a WAV. A model without the sense says that it takes none of the
kind (its limit is 0); a model with the sense refuses only these broken ones."""
_NO_SENSE = re.compile(r"is not a multimodal model|At most 0 ")
_LANGUAGE_MODELS = "chat", "completions", "responses", "messages"

KNOWS = (
    "chat,completions use_beam_search top_k min_p repetition_penalty length_penalty stop_token_ids"
    " include_stop_str_in_output ignore_eos min_tokens skip_special_tokens"
    " spaces_between_special_tokens truncate_prompt_tokens prompt_logprobs allowed_token_ids"
    " bad_words add_special_tokens response_format structured_outputs priority request_id"
    " return_tokens_as_token_ids return_token_ids cache_salt kv_transfer_params vllm_xargs"
    " logits_processors thinking_token_budget repetition_detection"
    " guided_json guided_regex guided_choice guided_grammar",
    "chat think echo add_generation_prompt continue_final_message documents chat_template"
    " chat_template_kwargs mm_processor_kwargs media_io_kwargs include_reasoning",
    "completions prompt_embeds max_completion_tokens",
    "embeddings truncate_prompt_tokens add_special_tokens priority request_id normalize embed_dtype"
    " endianness messages add_generation_prompt continue_final_message chat_template"
    " chat_template_kwargs mm_processor_kwargs",
    "responses store background previous_response_id truncation max_tool_calls logit_bias top_k"
    " seed stop repetition_penalty skip_special_tokens include_stop_str_in_output ignore_eos"
    " request_id mm_processor_kwargs priority cache_salt enable_response_messages vllm_xargs"
    " previous_input_messages previous_response structured_outputs",
    "messages,count_tokens chat_template_kwargs kv_transfer_params",
    "rerank,score,classify,pooling truncate_prompt_tokens truncation_side padding priority"
    " request_id mm_processor_kwargs cache_salt use_activation",
    "classify,pooling add_special_tokens add_generation_prompt continue_final_message"
    " chat_template chat_template_kwargs media_io_kwargs",
    "pooling embed_dtype endianness",
)
"""vLLM's own fields, from its source."""

_GUIDED: Mapping[str, str] = {
    f"guided_{kind}": kind for kind in ("json", "regex", "choice", "grammar")
}
"""Words that many clients still use, which vLLM gave up for parts of `structured_outputs` and then
passed over. They are sent along, for a vLLM that knows no others."""
MAPPED = ("reasoning_effort", "think", "thinking", *_GUIDED)
"""Fields that are said in vLLM's own words."""
_GO_ON: Mapping[str, Any] = {"continue_final_message": True, "add_generation_prompt": False}


class VllmEngine(OpenAIEngine):
    kind = "vllm"
    default_slots: ClassVar[int] = 32
    check_timeout: ClassVar[float] = 120.0
    """Seconds: a first request can wait for a compiler (25 s measured)."""
    ignored_fields: ClassVar[tuple[Ignored, ...]] = (
        Ignored("cache_prompt", "vLLM decides by its own flags what it caches", unless=(True,)),
        Ignored("return_progress", "vLLM tells no progress"),
        Ignored("timings_per_token", "vLLM tells no timings"),
        Ignored("functions", "use tools"),
        Ignored("function_call", "use tools"),
        Ignored("audio", "vLLM does not speak"),
        Ignored("web_search_options", "vLLM does not search", unless=()),
        Ignored("modalities", "the model only writes", ("chat",), (["text"],)),
        *foreign_fields.passed_over(KNOWS),
    )

    _page = b""
    """The page of metrics as of the last `discover`."""

    async def probe(self) -> bool:
        """``/health`` asks vLLM's engine process; its body is empty."""
        status, _ = await self._http.ask("GET", "/health", PROBE_TIMEOUT)
        return status == 200

    async def discover(self) -> Offer:
        self._page = await self._metrics()  # once, as it may be long, and each model asks it
        return await super().discover()

    async def _slots(self) -> int:
        found = _CONCURRENCY.search(self._page)
        fitting = int(float(found.group(1))) if found else self.default_slots
        return max(1, min(self.default_slots, fitting))

    async def _describe(
        self, public: str, own: str, entry: dict[str, Any], slots: int
    ) -> ServedModel:
        features = [*await self._found_endpoints()]
        senses: list[str] = []
        if "chat" in features:
            if await self._takes(own, _with_tool()):  # a 400 without --tool-call-parser
                features.append("tools")
            for sense, part in _SENSES.items():
                broken = {"messages": [{"role": "user", "content": [part]}]}
                if await self._takes(own, broken, or_only_this=True):
                    senses.append(sense)
        if any(word in features for word in _LANGUAGE_MODELS):
            features += ["json_schema", "logprobs", "n"]
        features += await self._resumes(own, features)
        context = int(entry.get("max_model_len") or 0)
        return ServedModel(
            public,
            self.name,
            self.kind,
            slots,
            context,
            ("text", *senses),
            (*features, *senses),
            self.ignored_fields,
            KNOWS,
            await digest.find(self._config, *self._weights(entry)),
        )

    def _weights(self, entry: Mapping[str, Any]) -> tuple[Any, ...]:
        """Its files are those that had the name when it was started: so the name and the time tell
        them. Nothing if it does not tell the time, as some servers with several processes."""
        started = _STARTED.search(self._page)
        names = entry.get("root"), entry.get("parent"), entry.get("max_model_len")
        return (*names, started.group(1).decode()) if started else ()

    async def _resumes(self, own: str, words: Sequence[str]) -> list[str]:
        """The endpoints whose answers it can continue: a chat, if its template leaves the last
        message open when told to. vLLM then counts fewer tokens than without that word."""
        found = [resuming(endpoints.COMPLETIONS.path)] if "completions" in words else []
        if "chat" in words:
            closed = await self._tokens({"model": own, **continued.BEGUN})
            opened = await self._tokens({"model": own, **continued.BEGUN, **_GO_ON})
            found += [resuming(endpoints.CHAT.path)] if 0 < opened < closed else []
        return found

    async def _count(self, own: str, text: str) -> int:
        return await self._tokens({"model": own, "prompt": text, "add_special_tokens": False})

    async def _tokens(self, asked: Mapping[str, Any]) -> int:
        """How many tokens vLLM counts; 0 if it does not say."""
        return continued.count_in(
            *await self._http.post(endpoints.TOKENIZE.path, asked, PROBE_TIMEOUT), "count"
        )

    async def _serve(self, job: Job, body: bytes, sink: Sink) -> Usage | None:
        if job.endpoint not in (endpoints.TOKENIZE.path, endpoints.DETOKENIZE.path):
            return await super()._serve(job, body, sink)
        request = parsed.load(await self._prepare(job, body))
        asked = _in_own_form(request) if job.endpoint == endpoints.TOKENIZE.path else request
        status, answer = await self._http.post(job.endpoint, asked, PROBE_TIMEOUT)
        if status != 200:
            raise self._refused(job, status, answer)
        found = await piecewise.load(answer)
        if job.endpoint == endpoints.TOKENIZE.path:
            pieces, longest = found.get("token_strs") or [], found.get("max_model_len", 0)
            made = tokens.in_both_forms(request, found["tokens"], pieces, longest)
        else:
            made = tokens.text_document(found["prompt"])
        await self._send_document(sink, made)
        return None

    def _changes(self, job: Job, request: Mapping[str, Any]) -> dict[str, Any]:
        changes = super()._changes(job, request)
        # What the client says itself of either field counts.
        told = "continue_final_message" in request or "add_generation_prompt" in request
        if job.endpoint == endpoints.CHAT.path and not told and _goes_on(request):
            changes |= _GO_ON
        if job.endpoint in (endpoints.CHAT.path, endpoints.MESSAGES.path):
            changes |= _reasoning(job.endpoint, request)
        if job.endpoint in (endpoints.CHAT.path, endpoints.COMPLETIONS.path):
            changes |= _structured(request)
        if job.endpoint == endpoints.RERANK.path:
            changes |= rerank.as_texts(request)
        return changes

    def _explain(self, job: Job, refusal: Refusal) -> Refusal:
        refusal.message = _readable(_SUFFIX.sub("", refusal.message))
        if refusal.param:
            refusal.param = _path(refusal.param)
        if refusal.code == "context_length_exceeded":
            refusal.param = endpoints.BY_PATH[job.endpoint].api.prompt
        elif refusal.code == "invalid_request" and "tool-call-parser" in refusal.message:
            refusal.param, refusal.code = "tools", "unsupported_parameter"
        return refusal

    async def _takes(self, own: str, asked: dict[str, Any], or_only_this: bool = False) -> bool:
        """Whether vLLM takes a chat of one token; `or_only_this`: or refuses only these bytes."""
        body = {"model": own, "max_tokens": 1, **asked}
        status, answer = await self._http.post(endpoints.CHAT.path, body, self.check_timeout)
        if status == 400 and or_only_this:
            return _NO_SENSE.search(translate(status, answer).message) is None
        return status == 200

    async def _metrics(self) -> bytes:
        _, page = await self._http.ask("GET", "/metrics", PROBE_TIMEOUT)
        return page


def _in_own_form(request: Mapping[str, Any]) -> dict[str, Any]:
    """The request for the tokens of a text, in vLLM's form. Raises Refusal."""
    asked = {**request, "return_token_strs": tokens.wants_pieces(request)}
    if asked.pop("parse_special", True) is False:
        raise Refusal("vLLM always knows special tokens in a text.", param="parse_special")
    special = asked.pop("add_special", False)
    asked.pop("with_pieces", None)
    if "content" in asked:
        asked |= {"prompt": asked.pop("content"), "add_special_tokens": special}
        if not isinstance(asked["prompt"], str):
            raise Refusal("vLLM tokenizes one text.", param="content")
    return asked


def _reasoning(path: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """How much to think, in words that all its versions know. What the client says in
    `chat_template_kwargs` counts before all else. Messages have no field of their own for it."""
    wanted = endpoints.BY_PATH[path].api.reasoning(request)
    own = request.get("chat_template_kwargs") or {}
    if wanted == UNSAID or not isinstance(own, Mapping):
        return {}
    said = {} if wanted.on is None else {"enable_thinking": wanted.on}
    changes: dict[str, Any] = {"chat_template_kwargs": {**said, **own}} if said else {}
    if path == endpoints.CHAT.path:
        effort = "none" if wanted.on is False else wanted.degree("low", "medium", "high")
        changes["reasoning_effort"] = None if "reasoning_effort" in own else effort or None
    return changes


def _structured(request: Mapping[str, Any]) -> dict[str, Any]:
    """What the answer is to be, in the words of today."""
    old = {kind: request[name] for name, kind in _GUIDED.items() if request.get(name) is not None}
    own = request.get("structured_outputs") or {}
    if not old or not isinstance(own, Mapping):  # vLLM says what it is to be
        return {}
    return {"structured_outputs": {**old, **own}}


def _goes_on(request: Mapping[str, Any]) -> bool:
    """Whether the answer is to go on from the last message; there is nothing to add to a call."""
    last = continued.last_of_assistant(request) or {}
    return bool(last.get("content")) and not last.get("tool_calls")


def _with_tool() -> dict[str, Any]:
    function = {"name": "noop", "parameters": {"type": "object", "properties": {}}}
    return {
        "messages": [{"role": "user", "content": "hi"}],
        "tools": [{"type": "function", "function": function}],
    }


def _readable(message: str) -> str:
    """pydantic's errors as sentences: ``messages: Field required``.

    vLLM lists one error a line, as a Python dict. For a union it lists the errors of all members;
    errors about another place than the first one's would only confuse, so they are left out.
    """
    said: list[str] = []
    first = ""
    for line in message.splitlines():
        try:
            error = ast.literal_eval(line.strip())
            where, what = str(error["loc"]), str(error["msg"])
        except (ValueError, SyntaxError, KeyError, TypeError):
            continue
        path = _path(where)
        first = first or path
        if path == first or not _UNION.search(where):
            said.append(f"{path}: {what}")
    return "; ".join(dict.fromkeys(said)) + "." if said else message


def _path(location: str) -> str:
    """``body.messages.0.SomeClass.content`` as ``messages[0].content``."""
    path = ""
    for step in location.removeprefix("body.").split("."):
        if step.isdigit():
            path += f"[{step}]"
        elif not step[:1].isupper():  # else a class of Python, which clients do not know
            path += f".{step}" if path else step
    return path
