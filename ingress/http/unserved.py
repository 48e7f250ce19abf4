"""What a client is told that asks for an endpoint of OpenAI's API, Anthropic's or an engine's own
which is not served here: that it is not, and what does instead. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from schemas.api.endpoints import (
    BY_PATH,
    CHAT,
    COMPLETIONS,
    EDITS,
    EMBEDDINGS,
    IMAGES,
    MESSAGES,
    RERANK,
    RESPONSES,
    TRANSCRIPTIONS,
    VERSION,
)

_FILES = "no files are kept: send what a model is to read in the request itself"
_BATCHES = (
    'there are no batches: send each request by itself; with "service_tier": "flex" it waits until'
    " no other does"
)
_STATE = (
    f"nothing is kept between requests: send the whole conversation to {CHAT.path} or"
    f" {RESPONSES.path}"
)
_ANSWERS = "answers are not kept for later: each is in the reply to its own request"
_TRAINING = "no models are trained or tested here"
_SEARCH = (
    f"no documents are kept or searched: {EMBEDDINGS.path} and {RERANK.path} are what a search is"
    " made of"
)
_ONE_ENGINE = "it speaks of one engine, and many may serve a model: ask the engine itself"
_REALTIME = (
    f"there are no sessions: {TRANSCRIPTIONS.path} hears a recording, and {CHAT.path} streams"
)
_OPENAIS = "it is a service of OpenAI's own"

_WHY: Mapping[str, str] = {
    **dict.fromkeys(("/files", "/uploads"), _FILES),
    **dict.fromkeys(("/batches", f"{MESSAGES.path.removeprefix(VERSION)}/batches"), _BATCHES),
    **dict.fromkeys(("/assistants", "/threads", "/conversations"), _STATE),
    f"{RESPONSES.path.removeprefix(VERSION)}/compact": _STATE,
    **dict.fromkeys((each.path.removeprefix(VERSION) for each in (RESPONSES, CHAT)), _ANSWERS),
    **dict.fromkeys(("/fine_tuning", "/fine-tunes", "/evals"), _TRAINING),
    "/vector_stores": _SEARCH,
    "/realtime": _REALTIME,
    **dict.fromkeys(
        ("/containers", "/skills", "/organization", "/chatkit", "/dashboard"), _OPENAIS
    ),
    "/videos": f"no engine here makes videos; {IMAGES.path} makes pictures",
    **dict.fromkeys(("/audio/voices", "/audio/voice_consents"), "voices are the engine's own"),
    "/edits": f"OpenAI withdrew it: {CHAT.path} is in its place, and {EDITS.path} for pictures",
    "/engines": f"OpenAI withdrew it: {VERSION}/models and {COMPLETIONS.path} are in its place",
    "/complete": f"Anthropic withdrew it: {MESSAGES.path} is in its place",
    "/slots": f"{_ONE_ENGINE}, or /props?model=… and {VERSION}/queue for what all have",
    "/lora-adapters": _ONE_ENGINE,
}
"""By the first two steps of a path behind the version, or the first one."""


_SERVED = frozenset(step for path in BY_PATH for step in path.split("/"))
"""Steps of paths that are served; no answer has such an id. One of them is empty."""


def why(path: str) -> str:
    """Why an endpoint that others have is not served; "" if nobody is known to have it."""
    _, *steps = path.removeprefix(VERSION).rstrip("/").split("/")
    for count in (2, 1):
        if told := _WHY.get("/" + "/".join(steps[:count])):
            # Kept answers have ids behind the endpoint that made them, which is served itself.
            below = steps[count] if len(steps) > count else ""
            return "" if told is _ANSWERS and below in _SERVED else told
    return ""
