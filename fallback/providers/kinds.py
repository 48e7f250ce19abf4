"""Each kind of provider as data: its address, what its models can do, and what may not be sent
there.

Sources: the public API references of OpenAI, Google ("OpenAI compatibility" of the Gemini API),
Cloudflare (Workers AI, "OpenAI compatible API endpoints") and Anthropic ("OpenAI SDK
compatibility", Messages). Words for endpoints are those of `schemas.api.endpoints`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from fallback.providers.unsupported import (
    AUDIO_OUT,
    DRAWN_PLAINLY,
    FEES,
    GATEWAYS,
    NOT_SEEN,
    OF_ENGINES,
    REASONING,
    STATE,
    UNSEEN,
    not_in_anthropics_chat,
)
from schemas.api import endpoints
from schemas.nodes import Ignored

CHAT = endpoints.CHAT.path
COMPLETIONS = endpoints.COMPLETIONS.path
EMBEDDINGS = endpoints.EMBEDDINGS.path
RESPONSES = endpoints.RESPONSES.path
MESSAGES = endpoints.MESSAGES.path
COUNT = endpoints.COUNT_TOKENS.path
MODERATIONS = endpoints.MODERATIONS.path
TRANSCRIPTIONS = endpoints.TRANSCRIPTIONS.path
TRANSLATIONS = endpoints.TRANSLATIONS.path
SPEECH = endpoints.SPEECH.path
IMAGES = endpoints.IMAGES.path
EDITS = endpoints.EDITS.path

_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Family:
    """Models that are alike. `names`: patterns of their names, as in a shell. `limit`: the only
    name that they know for the limit of an answer; "" if they know both. `refuses`: fields, or
    values of fields, that they do not take. `drops`: fields that they refuse and that would change
    nothing, so they are left out. `resumes`: endpoints where they continue an assistant message at
    the end."""

    names: tuple[str, ...]
    endpoints: frozenset[str]
    limit: str = ""
    refuses: tuple[Ignored, ...] = ()
    drops: frozenset[str] = _NONE
    resumes: frozenset[str] = _NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderKind:
    """`url`: up to the version. `paths`: of endpoints behind it; the default is OpenAI's path
    without ``/v1``. `families`: the first one that fits a model counts. `choices`: the highest `n`.
    `batch`: most inputs of one embeddings request. `by_event`: each event of a stream carries one
    token, so events are counted; else letters. `keyless`: the provider may have no key. `drops`:
    fields that it refuses and that would not change answers. `key_header`: for endpoints where the
    key is not sent as ``Authorization: Bearer``. `headers`: sent with every request."""

    url: str
    families: tuple[Family, ...]
    paths: Mapping[str, str] = field(default_factory=dict)
    refuses: tuple[Ignored, ...] = ()
    choices: int = 128
    batch: int = 2048
    by_event: bool = True
    keyless: bool = False
    drops: frozenset[str] = _NONE
    key_header: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def family(self, model: str) -> Family:
        for family in self.families:
            if any(fnmatchcase(model.lower(), name) for name in family.names):
                return family
        return UNKNOWN

    def path(self, endpoint: str) -> str:
        return self.paths.get(endpoint) or endpoint.removeprefix("/v1")


UNKNOWN = Family(("*",), _NONE)
_EMBEDDING = frozenset({EMBEDDINGS})
_JUDGING = frozenset({MODERATIONS})
DRAWING = frozenset({IMAGES, EDITS})
HEARING = frozenset({TRANSCRIPTIONS, TRANSLATIONS})
WRITING = frozenset({CHAT, COMPLETIONS, RESPONSES, MESSAGES})
"""Endpoints whose answers are texts and calls."""
_TALKING = frozenset({CHAT, RESPONSES})
_NEW_LIMIT = "max_completion_tokens"
_OLD_LIMIT = "max_tokens"
"""All copies of OpenAI's API know this name. Some ignore the newer one: then an answer has no
limit, and may cost more than was reserved."""
_B64_ALONE = Ignored(
    "response_format", "its pictures come as base64 alone", ("images", "edits"), ("b64_json",)
)

OPENAI = ProviderKind(
    url="https://api.openai.com/v1",
    refuses=(*OF_ENGINES, *STATE, *FEES, *AUDIO_OUT),
    families=(
        Family(("text-embedding-*",), _EMBEDDING),
        Family(
            ("gpt-image-*", "chatgpt-image-*"),
            DRAWING,
            refuses=(_B64_ALONE,),
            drops=frozenset({"response_format", "style", "seed"}),
        ),
        Family(("dall-e-3*",), frozenset({IMAGES}), drops=frozenset({"seed", "output_format"})),
        Family(("dall-e-*",), DRAWING, drops=frozenset({"seed", "output_format"})),
        Family(("whisper-*",), HEARING),
        Family(("*-transcribe*",), frozenset({TRANSCRIPTIONS})),
        Family(("tts-*", "*-tts*"), frozenset({SPEECH})),
        Family(("*moderation*",), _JUDGING),
        Family(("*realtime*", "sora-*", "*-deep-research*", "computer-use-*"), _NONE),
        Family(("gpt-3.5-turbo-instruct*", "davinci-*", "babbage-*"), frozenset({COMPLETIONS})),
        Family(("*-pro", "*-pro-20*", "*codex*"), frozenset({RESPONSES}), refuses=REASONING),
        Family(("*audio*", "*-search-*"), frozenset({CHAT})),
        Family(("gpt-5-chat*", "gpt-5.?-chat*"), _TALKING, _NEW_LIMIT),
        Family(("o[0-9]*", "gpt-5*", "ft:o[0-9]*"), _TALKING, _NEW_LIMIT, REASONING),
        Family(("gpt-*", "chatgpt-*", "ft:*"), _TALKING),
    ),
)

GOOGLE = ProviderKind(
    url="https://generativelanguage.googleapis.com/v1beta",
    refuses=(
        *OF_ENGINES,
        *FEES,
        *AUDIO_OUT,
        Ignored("logit_bias", "Google passes over it", ("chat",)),
        Ignored("logprobs", "Google passes over it", ("chat",)),
        *NOT_SEEN,
        *DRAWN_PLAINLY,
    ),
    families=(
        Family(("gemini-embedding-*", "text-embedding-*", "embedding-*"), _EMBEDDING),
        Family(("gemini-*-image*", "imagen-*"), frozenset({IMAGES})),
        Family(("*-tts*", "*-live*", "*native-audio*", "veo-*", "aqa", "*-robotics-*"), _NONE),
        Family(("gemini-*", "gemma-*", "learnlm-*"), frozenset({CHAT})),
    ),
    paths={CHAT: "/openai/chat/completions", EMBEDDINGS: "/openai/embeddings"},
    key_header={IMAGES: "x-goog-api-key"},
    choices=8,
    batch=100,
    drops=UNSEEN,
    by_event=False,
)

CLOUDFLARE = ProviderKind(
    url="https://api.cloudflare.com/client/v4/accounts/{account_id}/ai/v1",
    refuses=(
        *OF_ENGINES,
        *FEES,
        *AUDIO_OUT,
        Ignored("logprobs", "Workers AI passes over it", ("chat",)),
        Ignored("logit_bias", "Workers AI passes over it", ("chat",)),
        Ignored("dimensions", "Workers AI always gives all of them", ("embeddings",)),
    ),
    families=(
        # These have only Cloudflare's own endpoints.
        Family(("@cf/*bge-reranker*", "@cf/*whisper*", "@cf/*flux*", "@cf/*stable-diff*"), _NONE),
        Family(("@cf/*bge*", "@cf/*embed*"), _EMBEDDING),
        Family(("@cf/*", "@hf/*"), frozenset({CHAT}), _OLD_LIMIT),
    ),
    choices=1,
    batch=100,
)

ANTHROPIC = ProviderKind(
    url="https://api.anthropic.com/v1",
    refuses=(*OF_ENGINES, *FEES, *not_in_anthropics_chat()),
    families=(
        # From 4.6 on, models refuse to resume ("What's new in Claude 4.6"). Whether chat resumes,
        # Anthropic's pages do not say.
        Family(
            ("claude-3*", "claude-*-4-5*", "claude-*-4-[01]", "claude-*-4-1-*", "claude-*-4-20*"),
            frozenset({MESSAGES, COUNT, CHAT}),
            resumes=frozenset({MESSAGES}),
        ),
        Family(("claude-*",), frozenset({MESSAGES, COUNT, CHAT})),
    ),
    choices=1,
    by_event=False,
    key_header={MESSAGES: "x-api-key", COUNT: "x-api-key"},
    headers={"anthropic-version": "2023-06-01"},
)

COMPATIBLE = ProviderKind(
    url="",
    refuses=(*OF_ENGINES, *FEES, *GATEWAYS, *AUDIO_OUT),
    families=(
        Family(("*embed*", "*bge-*", "*/e5-*", "*gte-*"), _EMBEDDING),
        Family(("*moderation*",), _JUDGING),
        Family(("*whisper*", "*-transcribe*", "*voxtral*"), HEARING),
        Family(("*tts*", "*orpheus*", "*kokoro*"), frozenset({SPEECH})),
        Family(("*flux*", "*dall-e*", "*stable-diffusion*", "*gpt-image*", "*sdxl*"), DRAWING),
        Family(("*",), frozenset({CHAT, COMPLETIONS}), _OLD_LIMIT),
    ),
    keyless=True,
)

KINDS: Mapping[str, ProviderKind] = {
    "openai": OPENAI,
    "google": GOOGLE,
    "cloudflare": CLOUDFLARE,
    "anthropic": ANTHROPIC,
    "compatible": COMPATIBLE,
}
