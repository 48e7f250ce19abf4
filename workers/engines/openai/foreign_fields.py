"""Fields that engines ignore silently: those of other engines' APIs, and those of OpenAI's and
Anthropic's own services, and those about thoughts at a model that has none.

A client that sends one wants something, so the request is refused and the client told what to send,
or the field is a hint (`schemas.api.hints`) and the client told that it did nothing.
"""

from __future__ import annotations

from dataclasses import replace

from schemas.api.hints import CACHE_CONTROL, CHAT, EMBED, MESSAGES, RESPONSES, TALKS, TEXT
from schemas.api.reasoning import OFF
from schemas.nodes import NOTHING, Ignored, names_at

_BOTH = (*CHAT, *TEXT)
_LIMIT = "use max_completion_tokens"
_OTHER = "it is another engine's"
_CACHES = "the engine decides itself what it caches"
_NOT_MESSAGES = "the API of messages does not have it"
_UNKNOWN = "the model does not know it"
# It asks to keep all thoughts, and none are taken out here.
_KEEP_THOUGHTS = {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}
_STATELESS = "nothing is kept of what was said before; send it along"


def _each(names: str, why: str, at: tuple[str, ...] = _BOTH, *more: object) -> tuple[Ignored, ...]:
    """`more`: further values that ask for nothing, besides the usual ones."""
    return tuple(Ignored(name, why, at, (*NOTHING, *more)) for name in names.split())


_FOREIGN = (
    *_each("max_output_tokens max_new_tokens num_predict n_predict", _LIMIT, CHAT),
    *_each("max_output_tokens max_new_tokens num_predict n_predict", "use max_tokens", TEXT),
    *_each("stop_sequences", "use stop"),
    *_each("system", "send a message with the role 'system'", CHAT),
    *_each("format guided_json json_schema", "use response_format", CHAT),
    Ignored("best_of", "only text completions have it", CHAT, (*NOTHING, 1), "n"),
    *_each("suffix echo", "only text completions have it", CHAT),
    *_each("system tools think", "only chats have it", TEXT),
    *_each("format guided_json json_schema", _OTHER, TEXT),
    *_each("response_format", "only chats have it", TEXT, {"type": "text"}),
    *_each("guided_regex guided_choice guided_grammar structured_outputs grammar", _OTHER),
    *_each("repetition_penalty repeat_penalty", _OTHER, _BOTH, 1),
    *_each("mirostat min_p", _OTHER),
    *_each("top_k", _OTHER, _BOTH, -1),
    *_each("dimensions", "only embeddings have them"),
    *_each("options", "its fields stand beside the others", (*_BOTH, *EMBED)),
    *_each("num_ctx", "who runs the engine says how long a context is"),
    Ignored(
        "keep_alive",
        "who runs the engine says how long a model stays loaded",
        (*TALKS, *EMBED),
        unless=(),
    ),
)
_HOSTED = (
    *_each(
        "service_tier", "the tiers are default and flex", TALKS, "auto", "default", "standard_only"
    ),
    *_each("speed", "there is one speed", MESSAGES, "standard"),
    *_each("inference_geo", "who runs the engine says where it runs", MESSAGES, "global"),
    *_each("store", "no answer is kept", (*CHAT, *RESPONSES)),
    *_each("previous_response_id conversation", _STATELESS, RESPONSES),
    *_each("context_management", _STATELESS, (*RESPONSES, *MESSAGES), _KEEP_THOUGHTS),
    *_each("prompt", "no prompts are kept here", RESPONSES),
    *_each("background", "an answer is waited for", RESPONSES),
    *_each("prediction", "nothing is predicted", CHAT),
    *_each("prompt_cache_key prompt_cache_retention prompt_cache_options", _CACHES, TALKS),
    Ignored(CACHE_CONTROL, _CACHES, TALKS, ()),
    *_each("truncation", "too long an input is refused", RESPONSES, "disabled"),
    Ignored("max_tool_calls", "no tools are run here", RESPONSES, ()),
    *_each("mcp_servers container", "no tools are run here", MESSAGES),
    *_each("stream_options.include_obfuscation", "nothing is padded", (*CHAT, *RESPONSES)),
    *_each("text.verbosity verbosity", _UNKNOWN, (*CHAT, *RESPONSES), "medium"),
    *_each("output_config.task_budget", _UNKNOWN, MESSAGES),
    Ignored("seed", _NOT_MESSAGES, MESSAGES, ()),
    *_each("n", _NOT_MESSAGES, MESSAGES, 1),
    *_each("stop", "use stop_sequences", MESSAGES),
    *_each("response_format json_schema", "use output_config.format", MESSAGES),
    *_each("logit_bias presence_penalty frequency_penalty logprobs", _NOT_MESSAGES, MESSAGES),
    *_each("repeat_penalty min_p grammar ignore_eos", _NOT_MESSAGES, MESSAGES),
)
"""Not among them are `hints.SILENT`."""
_NO_EFFECT = (*OFF, "medium")
"""An answer without thoughts comes anyway, and "medium" is the default."""
_NO_REASONING = "the model does not reason"
NO_THOUGHTS = (
    Ignored("reasoning_effort", _NO_REASONING, CHAT, _NO_EFFECT),
    Ignored("think", _NO_REASONING, CHAT, (False,)),
    Ignored("reasoning.effort", _NO_REASONING, RESPONSES, _NO_EFFECT),
    Ignored("thinking", _NO_REASONING, MESSAGES, ({"type": "disabled"}, {"type": "adaptive"})),
    Ignored("output_config.effort", _NO_REASONING, MESSAGES, ("high",)),
)
"""The fields that do nothing at a model that does not reason."""


def passed_over(knows: tuple[str, ...]) -> tuple[Ignored, ...]:
    """The foreign fields that an engine ignores, for its card; `knows` lists the engine's own."""
    found = []
    for each in (*_FOREIGN, *_HOSTED):
        at = tuple(word for word in each.at if each.field not in (names_at(knows, word) or ()))
        if at:
            found.append(replace(each, at=at))
    return tuple(found)
