"""What llama-server can do, and which request fields it ignores silently. Pure.

Measured on b11549: none of the fields below changed the answer. Not listed are fields that never
change an answer (`user`, `store`, `metadata` …), and fields that llama-server itself refuses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from schemas.api.hints import RESPONSES
from schemas.nodes import NOTHING, Ignored
from workers.engines.openai import foreign_fields

_CHATS = ("chat", "chat_tokens", "apply_template")
_TEXTS = ("completions", "own_completion", "infill")
GENERATING = (*_CHATS, *_TEXTS, *RESPONSES, "messages", "count_tokens")

KNOWS = (
    "chat,chat_tokens,apply_template,completions,own_completion,infill,responses,input_tokens"
    " verbose timings_per_token cache_prompt"
    " return_tokens return_progress sse_ping_interval n_predict n_indent n_keep n_discard n_cmpl"
    " n_cache_reuse t_max_predict_ms response_fields top_k min_p top_n_sigma xtc_probability"
    " xtc_threshold typical_p dynatemp_range dynatemp_exponent repeat_last_n repeat_penalty"
    " dry_multiplier dry_base dry_allowed_length dry_penalty_last_n dry_sequence_breakers mirostat"
    " mirostat_tau mirostat_eta adaptive_target adaptive_decay n_probs min_keep backend_sampling"
    " post_sampling_probs lora json_schema grammar grammar_lazy grammar_triggers preserved_tokens"
    " samplers ignore_eos id_slot echo",
    "chat,chat_tokens,apply_template,responses,input_tokens chat_template_kwargs"
    " add_generation_prompt generation_prompt continue_final_message chat_format chat_parser"
    " parse_tool_calls"
    " reasoning_format reasoning_control reasoning_budget_tokens reasoning_budget_start_tag"
    " reasoning_budget_end_tag reasoning_budget_end_tags reasoning_budget_message"
    " thinking_budget_tokens",
    "chat think",
    "completions max_completion_tokens",
    "infill t_max_prompt_ms",
    "responses,input_tokens stop seed presence_penalty frequency_penalty logit_bias n"
    " max_completion_tokens",
    "messages,count_tokens top_k chat_template_kwargs",
    "embeddings embd_normalize",
    "rerank return_text",
)
"""llama-server's own fields. Measured: it refuses a wrong type; others are from its source."""

_ALWAYS = (
    Ignored("functions", "use tools", ("chat",)),
    Ignored("function_call", "use tools", ("chat",), ("none", "auto")),
    Ignored("audio", "the model does not speak", ("chat",)),
    Ignored("modalities", "the model only writes", ("chat",), (["text"],)),
    Ignored("web_search_options", "nothing is searched", ("chat",), ()),
    Ignored("echo", "llama-server does not repeat the prompt", ("completions",)),
    Ignored("best_of", "llama-server gives every choice", ("completions",), (1,), "n"),
    Ignored("return_documents", "llama-server gives their numbers", ("rerank",)),
    Ignored("n", "a response has one answer", RESPONSES, (1,)),
    Ignored("top_logprobs", "llama-server tells them in chats alone", RESPONSES),
    Ignored("reasoning.summary", "the reasoning comes as it is", RESPONSES, ("auto",)),
    Ignored(
        "include",
        "llama-server adds nothing to its answers",
        RESPONSES,
        ([], ["reasoning.encrypted_content"]),
    ),
)
_FOREIGN = foreign_fields.passed_over(KNOWS)


def abilities(props: Mapping[str, Any], endpoints: Sequence[str]) -> tuple[str, ...]:
    """The features of a server that generates text, besides `endpoints`. `props`: ``/props``."""
    thoughts = ("reasoning",) if thinks(props) else ()
    between = ("suffix",) if "infill" in endpoints else ()
    return ("json_schema", "logprobs", "n", "tools", *thoughts, *between)


def senses(props: Mapping[str, Any]) -> tuple[str, ...]:
    """What a model takes beside texts."""
    seen = props.get("modalities") or {}
    return tuple(name for name in ("vision", "audio") if seen.get(name))


def context(props: Mapping[str, Any]) -> int:
    """Tokens of a slot; 0 if they are not known."""
    return int((props.get("default_generation_settings") or {}).get("n_ctx") or 0)


def weights(props: Mapping[str, Any], entry: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells its weights, and what it makes of them, from another server's: file, size, count
    of parameters, build, template and defaults. `entry`: as in `ignored`."""
    meta = entry.get("meta") or {}
    if not (props.get("model_path") and meta.get("size")):
        return ()
    usual = props.get("default_generation_settings") or {}
    facts = meta["size"], meta.get("n_params"), meta.get("n_vocab"), meta.get("n_embd")
    made = props.get("build_info"), props.get("chat_template"), usual.get("params")
    return props["model_path"], *facts, *made, context(props)


def knows_tools(props: Mapping[str, Any]) -> bool:
    return bool(_caps(props).get("supports_tools"))


def ignored(
    props: Mapping[str, Any], entry: Mapping[str, Any], endpoints: Sequence[str]
) -> tuple[Ignored, ...]:
    """The fields ignored at `endpoints`. `entry`: the model's, in ``/v1/models``."""
    found = list(_ALWAYS)
    if "infill" not in endpoints:
        found.append(Ignored("suffix", "the model has no tokens for it", ("completions",)))
    if not thinks(props):
        found += foreign_fields.NO_THOUGHTS
    # A request for just as many dimensions gets what it asks for.
    size = (entry.get("meta") or {}).get("n_embd")
    why = f"llama-server always gives all {size or ''} of them".replace("  ", " ")
    found.append(Ignored("dimensions", why, ("embeddings",), (size,) if size else NOTHING))
    found += _FOREIGN
    return tuple(each for each in found if not set(endpoints).isdisjoint(each.at))


def known(endpoints: Sequence[str]) -> tuple[str, ...]:
    """The entries of `KNOWS` that belong to `endpoints`."""
    wanted = set(endpoints)  # each entry begins with the words of its endpoints
    return tuple(e for e in KNOWS if not wanted.isdisjoint(e.partition(" ")[0].split(",")))


def spins(slots: bytes) -> bool:
    """Whether ``/slots`` shows a server that works on nothing. Measured: it never answers several
    choices for a prompt without a token, although it still answers all of its pages."""
    try:
        working = [each for each in orjson.loads(slots) if each["is_processing"]]
        return bool(working) and not any(each["n_prompt_tokens"] for each in working)
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return False


def _caps(props: Mapping[str, Any]) -> Mapping[str, Any]:
    found = props.get("chat_template_caps")
    return found if isinstance(found, dict) else {}


def has_degrees(props: Mapping[str, Any]) -> bool:
    """Whether the chat template knows how much to think, and not only whether."""
    return bool(_caps(props).get("supports_reasoning_effort"))


def thinks(props: Mapping[str, Any]) -> bool:
    """Whether the model reasons. Not all templates set a flag, but all name a tag or a switch."""
    if has_degrees(props) or _caps(props).get("supports_preserve_reasoning"):
        return True
    return "think" in str(props.get("chat_template") or "").lower()
