"""The rows of the table. To add one is to write its probe, and its name here."""

from __future__ import annotations

from deploy.compat.probes import edge, media, sampling, streams, structured, texts, tools
from deploy.compat.rows import Row

COMMON: tuple[Row, ...] = (
    texts.chat,
    texts.completions,
    texts.embeddings,
    media.images,
    media.transcriptions,
    edge.models,
    streams.streaming,
    tools.tools,
    structured.json,
    media.vision,
    sampling.logprobs,
    sampling.n,
    sampling.temperature,
    sampling.max_tokens,
    sampling.stop,
    sampling.seed,
    edge.keys,
    edge.several_models,
    edge.reachable,
)
"""What every server of this kind is compared by, in the order and the words of that comparison."""

OURS: tuple[Row, ...] = (
    texts.responses,
    texts.messages,
    texts.count_tokens,
    texts.ollama,
    texts.moderations,
    texts.rerank,
    texts.tokenize,
    texts.detokenize,
    texts.template,
    texts.own_completion,
    media.edits,
    media.translations,
    media.formats,
    texts.base64,
    streams.include_usage,
    sampling.usage,
    tools.tools_streamed,
    tools.tools_parallel,
    tools.messages_call,
    structured.json_streamed,
    structured.bad_schema,
    texts.too_long,
    edge.nothing_silent,
    edge.hints,
    edge.packed,
    edge.errors,
    edge.request_id,
    streams.resumed,
    streams.cancel,
)
"""What Headrace promises beside them."""

ROWS = (*COMMON, *OURS)
