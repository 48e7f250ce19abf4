"""What llama-server shows of itself: `/props`, `/slots`, `/v1/models`, `/metrics`.

Source as in `wire`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import orjson

CONTEXT = 2048
STARTED = int(time.time())
_PARAMS: dict[str, Any] = {
    "seed": 4294967295,
    "temperature": 0.800000011920929,
    "dynatemp_range": 0.0,
    "dynatemp_exponent": 1.0,
    "top_k": 40,
    "top_p": 0.949999988079071,
    "min_p": 0.05000000074505806,
    "top_n_sigma": -1.0,
    "xtc_probability": 0.0,
    "xtc_threshold": 0.10000000149011612,
    "typical_p": 1.0,
    "repeat_last_n": 64,
    "repeat_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "dry_multiplier": 0.0,
    "dry_base": 1.75,
    "dry_allowed_length": 2,
    "dry_penalty_last_n": 64,
    "mirostat": 0,
    "mirostat_tau": 5.0,
    "mirostat_eta": 0.10000000149011612,
    "adaptive_target": -1.0,
    "adaptive_decay": 0.8999999761581421,
    "max_tokens": -1,
    "n_predict": -1,
    "n_keep": 0,
    "n_discard": 0,
    "ignore_eos": False,
    "stream": False,
    "n_probs": 0,
    "min_keep": 0,
    "chat_format": "Content-only",
    "reasoning_format": "none",
    "reasoning_in_content": False,
    "generation_prompt": "",
    "samplers": ["penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc"],
    "speculative.types": "none",
    "timings_per_token": False,
    "post_sampling_probs": False,
    "backend_sampling": False,
    "lora": [],
}
_TEMPLATE = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
_CAPS = (
    "supports_object_arguments",
    "supports_parallel_tool_calls",
    "supports_preserve_reasoning",
    "supports_reasoning_effort",
    "supports_string_content",
    "supports_system_role",
    "supports_tool_calls",
    "supports_tools",
    "supports_typed_content",
)


@dataclass(frozen=True)
class Busy:
    """What `/slots` tells of a slot at work."""

    task: int
    tokens: int
    decoded: int
    stream: bool


@dataclass
class Counts:
    """What `/metrics` counts; tokens and seconds are sums over finished replies."""

    prompt: int = 0
    tokens: int = 0
    seconds: float = 0


def props(slots: int, model: str, thinks: bool = False) -> dict[str, Any]:
    """The body of `GET /props`. `thinks`: its template has thoughts."""
    caps = {name: name in ("supports_string_content", "supports_system_role") for name in _CAPS}
    return {
        "default_generation_settings": {"params": _PARAMS, "n_ctx": CONTEXT},
        "total_slots": slots,
        "model_alias": model,
        "model_ftype": "Q4_1",
        "model_path": f"/models/{model}.gguf",
        "modalities": {"vision": False, "video": False, "audio": False},
        "media_marker": "<__media__>",
        "endpoint_slots": True,
        "endpoint_props": True,
        "endpoint_metrics": True,
        "ui": False,
        "ui_settings": {},
        "chat_template": _TEMPLATE + ("{# <think> #}" if thinks else ""),
        "chat_template_caps": caps,
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "build_info": "b0-unknown",
        "is_sleeping": False,
        "cors_proxy_enabled": False,
    }


def slots(total: int, busy: Iterable[tuple[int, Busy]], prompt_tokens: int) -> list[dict[str, Any]]:
    """The body of `GET /slots`: an idle slot lists four fields, a busy one its task as well."""
    pages: list[dict[str, Any]] = [
        {"id": number, "n_ctx": CONTEXT, "speculative": False, "is_processing": False}
        for number in range(total)
    ]
    for number, task in busy:
        limits = {"max_tokens": task.tokens, "n_predict": task.tokens, "stream": task.stream}
        token = {
            "has_next_token": True,
            "has_new_line": False,
            "n_remain": task.tokens - task.decoded,
            "n_decoded": task.decoded,
        }
        pages[number] |= {
            "is_processing": True,
            "id_task": task.task,
            "n_prompt_tokens": prompt_tokens,
            "n_prompt_tokens_processed": prompt_tokens,
            "n_prompt_tokens_cache": 0,
            "params": _PARAMS | limits,
            "next_token": [token],
        }
    return pages


def models(model: str) -> bytes:
    """The body of `GET /v1/models`: the list in two dialects."""
    details = ("parent_model", "format", "family", "families", "parameter_size")
    old = {
        "name": model,
        "model": model,
        **dict.fromkeys(("modified_at", "size", "digest"), ""),
        "type": "model",
        "description": "",
        "tags": [""],
        "capabilities": ["completion"],
        "parameters": "",
        "details": dict.fromkeys(details, "")
        | {"format": "gguf", "families": [""], "quantization_level": ""},
    }
    new = {
        "id": model,
        "aliases": [model],
        "tags": [],
        "object": "model",
        "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
        "created": STARTED,
        "owned_by": "llamacpp",
        "meta": {
            "vocab_type": 2,
            "n_vocab": 49152,
            "n_ctx": CONTEXT,
            "n_ctx_train": 8192,
            "n_embd": 576,
            "n_params": 134515008,
            "size": 96576768,
            "ftype": "Q4_1",
        },
    }
    return orjson.dumps({"models": [old], "object": "list", "data": [new]})


_METRICS = """\
prompt_tokens_total counter Number of prompt tokens processed, excluding cached tokens
prompt_tokens_cached_total counter Number of prompt tokens reused from the cache
prompt_seconds_total counter Total time spent processing prompts
tokens_predicted_total counter Number of generation tokens processed
tokens_predicted_seconds_total counter Total time spent generating tokens
n_decode_total counter Total number of llama_decode() calls, excluding speculative decoding and \
multimodal decoding
n_tokens_max counter Largest observed sequence length (prompt + generation)
spec_decode_num_draft_tokens_total counter Speculative: Total draft tokens generated
spec_decode_num_accepted_tokens_total counter Speculative: Total draft tokens accepted by the \
target model
spec_decode_num_drafts_total counter Speculative: Total speculative decoding verification steps
prompt_tokens_seconds gauge Average prompt throughput in tokens/s
predicted_tokens_seconds gauge Average generation throughput in tokens/s
requests_processing gauge Number of requests processing
requests_deferred gauge Number of requests deferred
n_busy_slots_per_decode gauge Average number of busy slots per llama_decode() call
""".splitlines()


def prompt(chat: dict[str, Any], thinks: bool = False) -> bytes:
    """The body of `POST /apply-template`, of a template that leaves the last message open, and its
    thoughts if there is no text behind them. Without `thinks`, it drops thoughts."""
    said = [f"<{each['role']}>{_written(each, thinks)}" for each in chat["messages"]]
    return orjson.dumps({"prompt": "".join(said)})


def _written(message: dict[str, Any], thinks: bool) -> str:
    text, thoughts = str(message["content"]), message.get("reasoning_content")
    if not (thinks and thoughts):
        return text
    return f"<think>\n{thoughts}" + (f"\n</think>\n\n{text}" if text else "")


def tokens(asked: dict[str, Any]) -> bytes:
    """The body of `POST /tokenize`: each word is a token."""
    return orjson.dumps({"tokens": list(range(len(asked["content"].split())))})


def metrics(counts: Counts, busy: int, deferred: int) -> bytes:
    """The body of `GET /metrics`; what the mock does not count is 0."""
    values: dict[str, float] = {
        "prompt_tokens_total": counts.prompt,
        "tokens_predicted_total": counts.tokens,
        "tokens_predicted_seconds_total": counts.seconds,
        "n_decode_total": counts.tokens,
        "requests_processing": busy,
        "requests_deferred": deferred,
    }
    lines = []
    for row in _METRICS:
        name, kind, meaning = row.split(" ", 2)
        full, value = f"llamacpp:{name}", values.get(name, 0)
        lines += [f"# HELP {full} {meaning}", f"# TYPE {full} {kind}", f"{full} {value}"]
    return "\n".join([*lines, ""]).encode()
