"""`docs/fields.md` is what the code says, and the code knows the fields of the official clients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from anthropic.types import message_count_tokens_params, message_create_params
from openai.types import completion_create_params, embedding_create_params
from openai.types.chat import completion_create_params as chat_params
from openai.types.responses import response_create_params

from schemas.api import endpoints
from schemas.api.endpoints import Endpoint
from tests import fields_page

PAGE = Path(__file__).parents[2] / "docs" / "fields.md"
NEWER = {
    *("moderation", "access_programs", "background_options", "image"),
    *("diagnostics", "user_profile_id", "workspace_id"),
}
"""Fields of the newest client that no engine here has: they pass, and are named as unknown."""


def test_the_page_is_made_anew_with_the_code() -> None:
    before = PAGE.read_text()
    assert before == fields_page.page(before), "run: python -m tests.fields_page docs/fields.md"


@pytest.mark.parametrize(
    ("endpoint", "documented"),
    [
        (endpoints.CHAT, chat_params.CompletionCreateParamsBase),
        (endpoints.COMPLETIONS, completion_create_params.CompletionCreateParamsBase),
        (endpoints.EMBEDDINGS, embedding_create_params.EmbeddingCreateParams),
        (endpoints.RESPONSES, response_create_params.ResponseCreateParamsBase),
        (endpoints.MESSAGES, message_create_params.MessageCreateParamsBase),
        (endpoints.COUNT_TOKENS, message_count_tokens_params.MessageCountTokensParams),
    ],
)
def test_every_field_of_the_official_clients_is_known(endpoint: Endpoint, documented: Any) -> None:
    assert set(documented.__annotations__) - endpoint.shape.names <= NEWER


@pytest.mark.parametrize(
    ("path", "endpoint", "name", "expected"),
    [
        ("temperature", endpoints.CHAT, "vLLM", "honoured"),
        ("n", endpoints.CHAT, "Ollama", "honoured"),
        ("reasoning_effort", endpoints.CHAT, "llama.cpp, a model that reasons", "mapped"),
        ("reasoning_effort", endpoints.CHAT, "llama.cpp", "hint"),
        ("user", endpoints.CHAT, "llama.cpp", "unsaid"),
        ("service_tier", endpoints.MESSAGES, "vLLM", "hint"),
        ("suffix", endpoints.COMPLETIONS, "llama.cpp", "refused"),
        (
            *("suffix", endpoints.COMPLETIONS),
            *("llama.cpp, a model with tokens for a text between two", "honoured"),
        ),
        ("background", endpoints.RESPONSES, "llama.cpp", "refused"),
        ("tool_choice", endpoints.CHAT, "Ollama", "tried"),
    ],
)
def test_the_class_of_a_field(path: str, endpoint: Endpoint, name: str, expected: str) -> None:
    (card,) = (card for card in fields_page.CARDS if card.id == name)
    assert fields_page.class_of(path, endpoint, card) == expected
