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
_MANY = 4096


def own_form(found: Any, where: str) -> str:
    """The place of the first prompt in a form that only llama-server has; "" if there is none."""
    if isinstance(found, str):
        return ""
    if not isinstance(found, list):
        return where
    if _are_tokens(found):
        return ""
    kinds = set(map(type, found))
    if kinds <= {str}:
        return ""
    if int in kinds:
        return where
    own = (_is_own(each, type(found[0])) for each in found)
    return next((f"{where}[{at}]" for at, is_own in enumerate(own) if is_own), "")


def _is_own(prompt: Any, kind: type) -> bool:
    """Whether `prompt` is in a form of llama-server's own. It is one of several prompts, and the
    first of them is of the type `kind`: OpenAI allows no mixture."""
    if isinstance(prompt, str | list) and type(prompt) is kind:
        return isinstance(prompt, list) and not _are_tokens(prompt)
    return True


def _are_tokens(prompt: list[Any]) -> bool:
    """Whether a prompt has token ids alone. It has been checked, so there is nothing in it but
    these and texts, with which no sum can be made (measured: 6 ms for a million; their types: 16).
    """
    if len(prompt) < _MANY:
        return set(map(type, prompt)) == _TOKENS
    if type(prompt[0]) is not int:
        return False
    try:
        sum(prompt)
    except TypeError:
        return False
    return True


def is_empty(prompt: Any) -> bool:
    """Whether a prompt has no words, no token ids and no pictures."""
    if isinstance(prompt, dict):
        return not prompt.get(DATA) and is_empty(prompt[TEXT])
    return prompt == "" or (isinstance(prompt, list) and not any(each != "" for each in prompt))
