"""How far a request may go: its route, its key and the request itself say so. Pure.

Each of them can only narrow what is allowed so far. The request says it in ``x-headrace-fallback``:
``never`` keeps it here, ``only`` sends it to a provider at once, ``allow`` leaves it to the route.
One that is for certain nodes stays here unless it says ``allow`` itself.
"""

from __future__ import annotations

from ingress.models.pins import HEADER as PIN_HEADER
from ingress.models.pins import Pin
from schemas.errors import InvalidRequest, NoProvider

LOCAL = "local"
ANY = "any"
CLOUD = "cloud"
"""Where a request may be served: by workers alone, by both, or by providers alone."""

HEADER = "x-headrace-fallback"
WORDS = ("never", "allow", "only")


def narrowed(reach: str, name: str, word: str, local: bool) -> str:
    """What is left of `reach`. `name`: the model as the client names it. `word`: the header's
    value. `local`: the key is strictly local. Raises InvalidRequest, NoProvider."""
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


def of_pinned(reach: str, name: str, word: str, local: bool, pin: Pin) -> str:
    """What is left of `reach` for a request that is for certain nodes; as in `narrowed`. Raises
    InvalidRequest, NoProvider."""
    word = word.strip().lower()
    if word == "only" and pin.by_request:
        why = f"{HEADER}: only sends a request to a provider, and {PIN_HEADER} to {pin}"
        raise InvalidRequest(f"{why}. Send one of them.", param=HEADER)
    if word == "only":
        why = f"{name!r} cannot be sent to a provider: its key is bound to nodes."
        raise NoProvider(why, param=HEADER)
    # What binds a key, its requests cannot undo.
    allowed = word == "allow" and not pin.globs and reach != CLOUD
    return narrowed(reach, name, word, local) if allowed else narrowed(LOCAL, name, word, local)


def _known(text: str) -> str:
    word = text.strip().lower() or "allow"
    if word not in WORDS:
        why = f"{HEADER}: {text!r} is none of {', '.join(WORDS)}."
        raise InvalidRequest(why, param=HEADER)
    return word
