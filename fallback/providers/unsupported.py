"""Fields of requests that a paid API would silently ignore, or charge for beside the tokens.

They are `Ignored` entries, like those on engines' cards. A request that sets one of them does not
go to the provider, unless the client is lenient or the field is a hint (`schemas.api.hints`): then
the field is left out. Fields without an effect on the answer (what an engine caches) are always
left out.
"""

from __future__ import annotations

from schemas.api.hints import SILENT
from schemas.nodes import NOTHING, Ignored

COMPUTED = frozenset(
    {
        *("cache_prompt", "n_keep", "n_cache_reuse", "id_slot", "slot_id"),
        *("timings_per_token", "return_progress", "return_tokens", "t_max_predict_ms"),
    }
)
"""Fields that change how an engine computes, but not the answer."""

UNSEEN = frozenset(
    {
        *("store", "metadata", "user", "safety_identifier", "service_tier", "prediction"),
        *("prompt_cache_key", "prompt_cache_retention"),
    }
)
"""OpenAI's fields for its own books and caches: Google's compatible surface refuses them."""

NOT_SEEN: tuple[Ignored, ...] = tuple(
    Ignored(name, "this provider does not know it") for name in sorted(UNSEEN - SILENT)
)

_ENGINE = "it is an engine's own, and this provider does not have it"
_SAMPLING = (
    *("grammar", "grammar_lazy", "json_schema", "guided_json", "guided_regex", "guided_choice"),
    *("guided_grammar", "structured_outputs", "min_p", "typical_p", "top_n_sigma", "mirostat"),
    *("mirostat_tau", "mirostat_eta", "repeat_penalty", "repeat_last_n", "repetition_penalty"),
    *("dry_multiplier", "dry_base", "xtc_probability", "dynatemp_range", "samplers", "n_predict"),
    *("ignore_eos", "n_probs", "min_keep", "lora", "chat_template", "chat_template_kwargs"),
    *("reasoning_budget", "min_tokens", "stop_token_ids", "use_beam_search", "length_penalty"),
    *("options", "think", "bad_words", "allowed_token_ids", "prompt_logprobs"),
)
OF_ENGINES: tuple[Ignored, ...] = (
    *(Ignored(name, _ENGINE) for name in _SAMPLING),
    Ignored("top_k", _ENGINE, ("chat", "completions", "responses")),
    Ignored("keep_alive", _ENGINE, unless=()),
)
"""Fields of llama.cpp, vLLM and Ollama. OpenRouter and some others know a few, but get none."""

STATE: tuple[Ignored, ...] = tuple(
    Ignored(name, "nothing is kept at a provider from one request to the next", ("responses",))
    for name in ("previous_response_id", "conversation", "background", "prompt")
)

_FEE = "it is charged beside the tokens"
FEES: tuple[Ignored, ...] = (
    Ignored("web_search_options", _FEE, ("chat",), ()),  # even {} is a search
    Ignored("service_tier", _FEE, unless=("auto", "default", "flex", "standard_only", "on_demand")),
    Ignored("mcp_servers", _FEE, ("messages",)),
    Ignored("container", _FEE, ("messages",)),
    Ignored("inference_geo", _FEE, ("messages",), ("global",)),
    Ignored("speed", _FEE, ("messages",), ("standard",)),
)
"""Fields that cost extra: prices are for tokens, pictures, minutes and letters alone."""

_ELSEWHERE = "another model or host may answer then, at another price"
GATEWAYS: tuple[Ignored, ...] = (
    *(Ignored(name, _ELSEWHERE) for name in ("models", "provider", "route", "preset", "fallbacks")),
    *(Ignored(name, _FEE) for name in ("plugins", "search_parameters", "enable_search")),
    Ignored("search_settings", _FEE),
    Ignored("compound_custom", _FEE),
)
"""Fields of OpenRouter and LiteLLM, which forward requests, and of xAI, Qwen and Groq, which search
the web."""

AUDIO_OUT: tuple[Ignored, ...] = (
    Ignored("audio", "speech has another price than text", ("chat",)),
    Ignored("modalities", "speech has another price than text", ("chat",), (["text"],)),
)

_PLAINLY = "Google's image models do not know it"
DRAWN_PLAINLY: tuple[Ignored, ...] = (
    Ignored("quality", _PLAINLY, ("images",), ("auto", "standard")),
    Ignored("style", _PLAINLY, ("images",)),
    Ignored("background", _PLAINLY, ("images",), ("auto", "opaque")),
    Ignored("output_format", _PLAINLY, ("images",), ("png",)),
    Ignored("output_compression", _PLAINLY, ("images",), (100,)),
    Ignored("response_format", "its pictures come as base64 alone", ("images",), ("b64_json",)),
    Ignored("seed", _PLAINLY, ("images",), ()),
    Ignored("stream", _PLAINLY, ("images",)),
    Ignored("partial_images", _PLAINLY, ("images",)),
)

_FIXED = "models that reason do not take it"
REASONING: tuple[Ignored, ...] = (
    Ignored("temperature", _FIXED, unless=(1,)),
    Ignored("top_p", _FIXED, unless=(1,)),
    Ignored("presence_penalty", _FIXED, unless=(0,)),
    Ignored("frequency_penalty", _FIXED, unless=(0,)),
    Ignored("logprobs", _FIXED),
    Ignored("top_logprobs", _FIXED),
    Ignored("logit_bias", _FIXED),
    Ignored("stop", _FIXED),
)
"""Fields that OpenAI's o-series and GPT-5 refuse with 400; the next provider may take them."""


def not_in_anthropics_chat() -> tuple[Ignored, ...]:
    """What Anthropic's OpenAI-compatible surface documents as ignored."""
    why = "Anthropic passes over it"
    names = ("response_format", "logprobs", "top_logprobs", "logit_bias", "seed")
    more = ("presence_penalty", "frequency_penalty", "audio", "prediction", "reasoning_effort")
    return (
        *(Ignored(name, why, ("chat",), _nothing(name)) for name in (*names, *more)),
        Ignored("modalities", why, ("chat",), (["text"],)),
    )


def _nothing(name: str) -> tuple[object, ...]:
    if name == "seed":
        return ()
    return ({"type": "text"},) if name == "response_format" else NOTHING
