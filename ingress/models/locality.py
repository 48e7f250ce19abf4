"""How far a request may go: what its route allows, what its key allows, and what it says itself.

Each can only narrow what the one before left. ``x-headrace-fallback``: ``never`` keeps the request
here, ``only`` sends it to a provider at once, ``allow`` leaves it to the route. Pure.
"""

from __future__ import annotations

from schemas.errors import InvalidRequest, NoProvider

LOCAL = "local"
ANY = "any"
CLOUD = "cloud"
"""Where a request may be served: by workers alone, by both, or by providers alone."""

HEADER = "x-headrace-fallback"
WORDS = ("never", "allow", "only")


def narrowed(reach: str, name: str, word: str, local: bool) -> str:
    """What is left of `reach`. `name`: the model as the client says it. `word`: what the header
    says. `local`: the key is strictly local. Raises InvalidRequest, NoProvider."""
    word = _known(word)
    stays = reach == LOCAL or local or word == "never"
    if word == "only" and stays:
        why = "its key is strictly local" if local else "no provider is configured for it"
        raise NoProvider(f"{name!r} cannot be sent to a provider: {why}.", param=HEADER)
    if stays and reach == CLOUD:
        why = "its key is strictly local" if local else f"the request says {HEADER}: never"
        raise NoProvider(f"Only providers have the model {name!r}, and {why}.", param="model")
    if stays:
        return LOCAL
    return CLOUD if word == "only" else reach


def _known(text: str) -> str:
    word = text.strip().lower() or "allow"
    if word not in WORDS:
        why = f"{HEADER}: {text!r} is none of {', '.join(WORDS)}."
        raise InvalidRequest(why, param=HEADER)
    return word
