"""Fields of APIs other than OpenAI's, which engines without them ignore silently.

A client that sends one wants something, so the request is refused and the client told what to send.
"""

from __future__ import annotations

from dataclasses import replace

from schemas.nodes import NOTHING, Ignored, names_at

_CHAT, _TEXT, _EMBED = ("chat",), ("completions",), ("embeddings",)
_BOTH = (*_CHAT, *_TEXT)
_LIMIT = "use max_completion_tokens"
_OTHER = "it is another engine's"


def _each(names: str, why: str, at: tuple[str, ...] = _BOTH, *more: object) -> tuple[Ignored, ...]:
    """`more`: further values that ask for nothing, besides the usual ones."""
    return tuple(Ignored(name, why, at, (*NOTHING, *more)) for name in names.split())


_FOREIGN = (
    *_each("max_output_tokens max_new_tokens num_predict n_predict", _LIMIT, _CHAT),
    *_each("max_output_tokens max_new_tokens num_predict n_predict", "use max_tokens", _TEXT),
    *_each("stop_sequences", "use stop"),
    *_each("system", "send a message with the role 'system'", _CHAT),
    *_each("format guided_json json_schema", "use response_format", _CHAT),
    *_each("think", "use reasoning_effort", _CHAT),
    Ignored("best_of", "only text completions have it", _CHAT, (*NOTHING, 1), "n"),
    *_each("suffix echo", "only text completions have it", _CHAT),
    *_each("system tools think", "only chats have it", _TEXT),
    *_each("format guided_json json_schema", _OTHER, _TEXT),
    *_each("response_format", "only chats have it", _TEXT, {"type": "text"}),
    *_each("guided_regex guided_choice guided_grammar structured_outputs grammar", _OTHER),
    *_each("repetition_penalty repeat_penalty", _OTHER, _BOTH, 1),
    *_each("mirostat min_p", _OTHER),
    *_each("top_k", _OTHER, _BOTH, -1),
    *_each("dimensions", "only embeddings have them"),
    *_each("options", "its fields stand beside the others", (*_BOTH, *_EMBED)),
    *_each("num_ctx", "who runs the engine says how long a context is"),
    Ignored(
        "keep_alive",
        "who runs the engine says how long a model stays loaded",
        (*_BOTH, *_EMBED),
        unless=(),
    ),
)


def passed_over(knows: tuple[str, ...]) -> tuple[Ignored, ...]:
    """The foreign fields that an engine ignores, for its card; `knows` lists the engine's own."""
    found = []
    for each in _FOREIGN:
        at = tuple(word for word in each.at if each.field not in (names_at(knows, word) or ()))
        if at:
            found.append(replace(each, at=at))
    return tuple(found)
