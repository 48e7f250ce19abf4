"""The ``options`` of Ollama's requests: how the model samples, and how it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from schemas.api.shape import Penalty, Seed, Share, Temperature

_Whole = Annotated[int, Field(ge=-(2**31), le=2**31 - 1)]


class Options(TypedDict, total=False):
    """Those that a request can have an effect with. Others pass unchecked, as at Ollama."""

    num_predict: _Whole | None
    num_keep: _Whole | None
    seed: Seed | None
    stop: str | list[str] | None
    temperature: Temperature | None
    top_p: Share | None
    top_k: _Whole | None
    min_p: float | None
    typical_p: float | None
    repeat_last_n: _Whole | None
    repeat_penalty: float | None
    presence_penalty: Penalty | None
    frequency_penalty: Penalty | None
    mirostat: _Whole | None
    mirostat_tau: float | None
    mirostat_eta: float | None


NAMES: Mapping[str, str] = {
    **{name: name for name in Options.__annotations__},
    "num_predict": "max_tokens",
    "num_keep": "n_keep",
}
"""What chats and text completions call them; beside OpenAI's words these are llama-server's."""
_LOADING = frozenset({
    "numa", "num_ctx", "num_batch", "num_gpu", "main_gpu", "low_vram", "f16_kv", "logits_all",
    "vocab_only", "use_mmap", "use_mlock", "embedding_only", "num_thread", "draft_num_predict",
})  # fmt: skip
_GONE = frozenset({"tfs_z", "penalize_newline"})
_ANY_SEED = -1
"""The seed that means "draw one" to Ollama, and its default."""
_LONGEST = 64


def put(options: Mapping[str, Any] | None) -> tuple[dict[str, Any], list[str]]:
    """The fields of a chat or a text completion, and what to say of the options without effect."""
    found, unused = dict[str, Any](), list[str]()
    for name, value in (options or {}).items():
        if name in NAMES:
            if value is not None and not _asks_for_nothing(name, value):
                found[NAMES[name]] = value
        elif value is not None:
            unused.append(f"options.{name[:_LONGEST]} has no effect: {_why(name)}")
    return found, unused


def unused(options: Mapping[str, Any] | None) -> list[str]:
    """What to say of the options of a request for embeddings, where none has an effect."""
    sampling = {name for name in options or {} if name in NAMES}
    return [
        *(f"options.{name} has no effect: nothing is sampled" for name in sorted(sampling)),
        *put({name: value for name, value in (options or {}).items() if name not in NAMES})[1],
    ]


def _asks_for_nothing(name: str, value: Any) -> bool:
    """To Ollama, a `num_predict` below 1 means that there is no limit."""
    return (name == "num_predict" and value < 1) or (name == "seed" and value == _ANY_SEED)


def _why(name: str) -> str:
    if name in _LOADING:
        return "who runs the engine says how a model is loaded"
    return "engines no longer have it" if name in _GONE else "no such option is known"
