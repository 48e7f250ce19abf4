"""The rows of the table, as data: first those that every server of this kind is compared by, then
ours. To add one is to add a line here and a probe to `deploy.compat.probes`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from deploy.compat.probes import edge, media, sampling, streams, structured, texts, tools
from deploy.compat.target import Target
from schemas.api import endpoints
from schemas.api.endpoints import Endpoint

PATIENCE = 30.0
"""Seconds for all requests of one probe."""
SLOW = 180.0
"""The same for pictures and sounds, which an engine without a GPU takes its time over."""

Probe = Callable[[Target], Awaitable[str]]
"""Returns what was seen. Raises Unmet."""


@dataclass(frozen=True, slots=True)
class Row:
    """`title`: as people see it; `proof`: what a "yes" rests on. `whole`: of the fabric, so that it
    is probed once and is the same for all models."""

    id: str
    title: str
    probe: Probe
    proof: str
    patience: float = PATIENCE
    whole: bool = False


def _at(endpoint: Endpoint, probe: Probe, proof: str, patience: float = PATIENCE) -> Row:
    return Row(endpoint.word, f"POST {endpoint.path}", probe, proof, patience)


COMMON: tuple[Row, ...] = (
    _at(endpoints.CHAT, texts.chat, "a text of the model that was named"),
    _at(endpoints.COMPLETIONS, texts.completions, "the prompt is continued"),
    _at(
        endpoints.EMBEDDINGS,
        texts.embeddings,
        "the same text has the same vector, another text another one",
    ),
    _at(endpoints.IMAGES, media.images, "a picture of the size that was asked for", SLOW),
    _at(endpoints.TRANSCRIPTIONS, media.transcriptions, "the words of a recorded sentence", SLOW),
    Row("models", "GET /v1/models", edge.models, "the model is in the list, and at its own path"),
    Row(
        "streaming",
        "streaming (SSE)",
        streams.streaming,
        "several pieces, one finish_reason, one id, [DONE]",
    ),
    Row(
        "tools",
        "tool / function calling",
        tools.tools,
        "the call comes, its arguments fit, its result is taken",
    ),
    Row(
        "json",
        "JSON mode / structured output",
        structured.json,
        "a schema holds of which the question says nothing",
    ),
    Row("vision", "vision", media.vision, "the picture takes tokens of the prompt"),
    Row(
        "logprobs",
        "logprobs",
        sampling.logprobs,
        "all ≤ 0, with alternatives in order; the tokens join to the text",
    ),
    Row("n", "n > 1", sampling.several, "as many choices as asked for, whole and streamed"),
    Row(
        "temperature",
        "temperature / top_p",
        sampling.temperature,
        "0 repeats, 1.5 varies, a tiny top_p undoes that, 5.0 is refused",
    ),
    Row(
        "max_tokens",
        "max_tokens / max_completion_tokens",
        sampling.max_tokens,
        "neither is exceeded, and finish_reason says so",
    ),
    Row("stop", "stop", sampling.stop, "the answer ends before a word that it had without it"),
    Row("seed", "seed", sampling.seed, "the same seed repeats at temperature 1, others do not"),
    Row(
        "keys",
        "API keys",
        edge.keys,
        "the right key opens, a wrong one and none do not",
        whole=True,
    ),
    Row(
        "several_models",
        "several models at one address",
        edge.several,
        "each listed model answers by its own name",
        SLOW,
        whole=True,
    ),
    Row(
        "reachable",
        "reachable from elsewhere",
        edge.reachable,
        "a node answered that nobody can dial, and the address is not of this machine alone",
        SLOW,
    ),
)
"""In the order, and with the words, of the comparison that they come from."""

OURS: tuple[Row, ...] = (
    _at(endpoints.RESPONSES, texts.responses, "a text, whole and streamed to its end"),
    _at(endpoints.MESSAGES, texts.messages, "a text, whole and streamed to its end"),
    _at(endpoints.COUNT_TOKENS, texts.count_tokens, "a longer text has more"),
    _at(endpoints.MODERATIONS, texts.moderations, "each text gets a verdict of its own"),
    _at(endpoints.RERANK, texts.rerank, "the document that answers comes first"),
    _at(endpoints.EDITS, media.edits, "a picture of the size that was asked for", SLOW),
    _at(endpoints.TRANSLATIONS, media.translations, "the words of a recorded sentence", SLOW),
    Row(
        "formats",
        "transcriptions: every response_format",
        media.formats,
        "json, text, srt, vtt, verbose_json, each in its own form",
        SLOW,
    ),
    Row(
        "base64",
        "embeddings: encoding_format base64",
        texts.embeddings_base64,
        "the same numbers as without it",
    ),
    Row(
        "include_usage",
        "streaming: stream_options.include_usage",
        streams.include_usage,
        "in the last event, and only if asked for",
    ),
    Row(
        "usage",
        "usage is exact",
        sampling.usage,
        "known numbers of tokens: whole, streamed, two choices",
    ),
    Row("tools_streamed", "tools, streamed", tools.streamed, "the pieces join to a fitting call"),
    Row("tools_parallel", "tools, parallel calls", tools.parallel, "two calls in one answer"),
    Row(
        "json_streamed",
        "JSON schema, streamed",
        structured.streamed,
        "the pieces join to JSON that fits",
    ),
    Row(
        "bad_schema",
        "JSON schema that is none: refused",
        structured.bad_schema,
        "400, and param names the schema",
    ),
    Row(
        "too_long",
        "prompt longer than the context: refused",
        texts.too_long,
        "400 context_length_exceeded, and no silent cut",
    ),
    Row(
        "nothing_silent",
        "field that would do nothing: refused",
        edge.nothing_silent,
        "400 with its name, or a warning for a lenient client",
    ),
    Row(
        "errors",
        "errors in OpenAI's envelope",
        edge.errors,
        "six faults, each a 4xx with its cause",
    ),
    Row(
        "request_id",
        "x-request-id comes back",
        edge.request_id,
        "the client's own, else a new one",
        whole=True,
    ),
    Row(
        "cancel",
        "client leaves: its slot is free",
        streams.cancel,
        "the node counts it as free while the answer was not over",
    ),
)
"""What Headrace promises beside them."""

ROWS = (*COMMON, *OURS)
