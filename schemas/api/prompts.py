"""The forms of a prompt: OpenAI's, and those that llama-server has beside them. Pure.

OpenAI's: a text, token ids, a list of texts, a list of lists of token ids. llama-server (its README
at "/completion", measured on b11549) takes texts and token ids mixed in one list, objects
``{"prompt_string": …}``, perhaps with pictures and recordings as base64 (`multimodal_data`), and
lists of all these.
"""

from __future__ import annotations

from typing import Any

TEXT, DATA = "prompt_string", "multimodal_data"
_TOKENS = {int}


def own_form(found: Any, where: str) -> str:
    """The place of the first prompt in a form that only llama-server has; "" if there is none."""
    if isinstance(found, str):
        return ""
    if not isinstance(found, list):
        return where
    kinds = set(map(type, found))
    if kinds <= {str} or kinds == _TOKENS:
        return ""
    if int in kinds:
        return where
    own = (_is_own(each, type(found[0])) for each in found)
    return next((f"{where}[{at}]" for at, is_own in enumerate(own) if is_own), "")


def _is_own(prompt: Any, kind: type) -> bool:
    """Whether `prompt` is in a form of llama-server's own. It is one of several prompts, and the
    first of them is of the type `kind`: OpenAI allows no mixture."""
    if isinstance(prompt, str | list) and type(prompt) is kind:
        return isinstance(prompt, list) and set(map(type, prompt)) != _TOKENS
    return True


def is_empty(prompt: Any) -> bool:
    """Whether a prompt has no words, no token ids and no pictures."""
    if isinstance(prompt, dict):
        return not prompt.get(DATA) and is_empty(prompt[TEXT])
    return prompt == "" or (isinstance(prompt, list) and not any(each != "" for each in prompt))
