"""Which requests go to which models: by family, field, and what would cost extra."""

from __future__ import annotations

from typing import Any

import pytest

from fallback.providers import kinds
from fallback.providers.request import Fit
from schemas.api import endpoints
from tests.unit.fallback.providers.tasks import chat, task

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"


def unfit(kind: str, endpoint: str, model: str, **request: Any) -> str:
    return Fit(kinds.KINDS[kind], model, endpoint).unfit(task(endpoint, model, **request))


WORDS: list[tuple[str, str, set[str]]] = [
    ("openai", "gpt-4o-mini", {"chat", "responses"}),
    ("openai", "gpt-5-mini", {"chat", "responses"}),
    ("openai", "gpt-5.2", {"chat", "responses"}),
    ("openai", "o3-mini", {"chat", "responses"}),
    ("openai", "o1-pro", {"responses"}),
    ("openai", "gpt-3.5-turbo-instruct", {"completions"}),
    ("openai", "text-embedding-3-large", {"embeddings"}),
    ("openai", "gpt-image-1", {"images", "edits"}),
    ("openai", "dall-e-3", {"images"}),
    ("openai", "whisper-1", {"transcriptions", "translations"}),
    ("openai", "gpt-4o-mini-transcribe", {"transcriptions"}),
    ("openai", "gpt-4o-mini-tts", {"speech"}),
    ("openai", "omni-moderation-latest", {"moderations"}),
    ("openai", "gpt-4o-realtime-preview", set()),
    ("google", "gemini-2.5-flash", {"chat"}),
    ("google", "gemini-2.5-flash-image", {"images"}),
    ("google", "imagen-4.0-fast-generate-001", {"images"}),
    ("google", "gemini-embedding-001", {"embeddings"}),
    ("google", "gemini-2.5-flash-preview-tts", set()),
    ("cloudflare", "@cf/baai/bge-m3", {"embeddings"}),
    ("cloudflare", "@cf/baai/bge-reranker-base", set()),
    ("cloudflare", "@cf/meta/llama-3.1-8b-instruct", {"chat"}),
    ("anthropic", "claude-sonnet-4-5", {"messages", "count_tokens", "chat"}),
    ("compatible", "meta-llama/Llama-3.3-70B", {"chat", "completions"}),
    ("compatible", "whisper-large-v3", {"transcriptions", "translations"}),
    ("compatible", "black-forest-labs/FLUX.1-schnell", {"images", "edits"}),
    ("compatible", "BAAI/bge-base-en-v1.5", {"embeddings"}),
]


def test_what_a_model_has(subtests: pytest.Subtests) -> None:
    for kind, model, words in WORDS:
        with subtests.test(f"{kind!r:.60} {model!r:.60}"):
            assert {
                endpoints.BY_PATH[path].word for path in kinds.KINDS[kind].family(model).endpoints
            } == words


@pytest.mark.parametrize("field", ["grammar", "json_schema", "min_p", "top_k", "chat_template"])
def test_fields_of_engines_are_not_lost_in_silence(field: str) -> None:
    assert field in unfit("openai", CHAT, "gpt-4o", **{field: "x"})
    assert unfit("openai", CHAT, "gpt-4o", **{field: None}) == ""


@pytest.mark.parametrize(
    "more",
    [
        {"temperature": 0.2},
        {"top_p": 0.5},
        {"logprobs": True},
        {"stop": ["x"]},
        {"presence_penalty": 1},
    ],
)
def test_models_that_reason_take_less(more: dict[str, Any]) -> None:
    expected = next(iter(more))
    assert unfit("openai", CHAT, "gpt-4o", **more) == ""
    assert expected in unfit("openai", CHAT, "gpt-5", **more)


def test_zero_is_a_temperature() -> None:
    assert "temperature" in unfit("openai", CHAT, "gpt-5", temperature=0)
    assert "top_p" in unfit("openai", CHAT, "o3", top_p=0)


def test_what_is_usual_passes_to_models_that_reason() -> None:
    assert unfit("openai", CHAT, "gpt-5", temperature=1, top_p=1.0, frequency_penalty=0) == ""


@pytest.mark.parametrize(
    ("endpoint", "more"),
    [
        (CHAT, {"web_search_options": {"search_context_size": "low"}}),
        (CHAT, {"modalities": ["text", "audio"]}),
        (RESPONSES, {"tools": [{"type": "web_search"}]}),
        (RESPONSES, {"tools": [{"type": "code_interpreter"}]}),
        (RESPONSES, {"previous_response_id": "resp_1"}),
        (RESPONSES, {"background": True}),
    ],
)
def test_what_costs_extra_or_is_kept_there_is_refused(endpoint: str, more: dict[str, Any]) -> None:
    assert unfit("openai", endpoint, "gpt-4o", **more)


@pytest.mark.parametrize("kind", kinds.KINDS)
@pytest.mark.parametrize("more", [{"service_tier": "priority"}, {"web_search_options": {}}])
def test_no_kind_of_provider_is_asked_for_what_costs_extra(kind: str, more: dict[str, Any]) -> None:
    models = {"google": "gemini-2.5-flash", "cloudflare": "@cf/x", "anthropic": "claude-x"}
    model = models.get(kind, "gpt-4o")
    named = next(iter(more))
    assert named == "service_tier" or named in unfit(kind, CHAT, model, **more)
    fit = Fit(kinds.KINDS[kind], model, CHAT)
    assert more.keys() <= fit.changes(chat(model, lenient=True, **more))[1]


@pytest.mark.parametrize(
    "more",
    [
        {"models": ["openai/o1-pro"]},
        {"provider": {"order": ["dear"]}},
        {"plugins": [{"id": "web"}]},
        {"route": "fallback"},
        {"fallbacks": ["dear"]},
        {"search_parameters": {"mode": "on"}},
        {"enable_search": True},
    ],
)
def test_a_gateway_chooses_no_other_model_and_buys_nothing(more: dict[str, Any]) -> None:
    assert next(iter(more)) in unfit("compatible", CHAT, "m", **more)
    assert unfit("compatible", CHAT, "m", **dict.fromkeys(more)) == ""


def test_functions_are_the_clients_own() -> None:
    tools = [{"type": "function", "name": "f"}]
    assert unfit("openai", RESPONSES, "gpt-4o", tools=tools) == ""
    assert unfit("anthropic", MESSAGES, "claude-x", tools=[{"name": "f"}]) == ""


@pytest.mark.parametrize(
    ("kind", "model", "more", "lost"),
    [
        ("openai", "gpt-4o", {"service_tier": "priority", "keep_alive": "5m"}, 2),
        ("openai", "gpt-5", {"reasoning_effort": "low", "verbosity": "low", "store": True}, 0),
        ("anthropic", "claude-x", {"reasoning_effort": "low"}, 1),
        ("google", "gemini-2.5-flash", {"store": True, "user": "u", "prompt_cache_key": "k"}, 2),
    ],
)
def test_hints_keep_no_request_from_a_provider(
    kind: str, model: str, more: dict[str, Any], lost: int
) -> None:
    assert unfit(kind, CHAT, model, **more) == ""
    fit = Fit(kinds.KINDS[kind], model, CHAT)
    assert fit.lost_hints(more) == lost
    _, dropped = fit.changes(chat(model, **more))
    assert dropped >= {each.field for each in fit.passed_over(more)}


def test_leniency_leaves_fields_out_but_pays_for_nothing_extra() -> None:
    fit = Fit(kinds.OPENAI, "gpt-4o", CHAT)
    asked = chat("gpt-4o", grammar="x", service_tier="priority", cache_prompt=True, lenient=True)
    assert fit.unfit(asked) == ""
    changed, dropped = fit.changes(asked)
    assert dropped == {"grammar", "service_tier", "cache_prompt"}
    assert changed == {"model": "gpt-4o"}
    tools = [{"type": "web_search"}]
    assert fit.unfit(chat("gpt-4o", tools=tools, lenient=True))


def test_the_newer_limit_goes_before_the_older() -> None:
    fit = Fit(kinds.OPENAI, "gpt-5", CHAT)
    changed, dropped = fit.changes(chat("gpt-5", max_tokens=5, max_completion_tokens=3))
    assert changed["max_completion_tokens"] == 3
    assert dropped == {"max_tokens"}
    changed, dropped = fit.changes(chat("gpt-5", max_tokens=-1))
    assert "max_completion_tokens" not in changed
    assert dropped == {"max_tokens"}


@pytest.mark.parametrize(
    ("kind", "endpoint", "limit", "name"),
    [
        ("compatible", CHAT, "", "max_tokens"),
        ("compatible", "/v1/completions", "", "max_tokens"),
        ("cloudflare", CHAT, "", "max_tokens"),
        ("compatible", CHAT, "max_completion_tokens", "max_completion_tokens"),
    ],
)
@pytest.mark.parametrize(
    "asked",
    [
        {"max_tokens": 9},
        {"max_completion_tokens": 9},
        {"max_tokens": -1, "max_completion_tokens": 9},
        {"max_tokens": 9, "max_completion_tokens": -1},
        {"max_tokens": 99, "max_completion_tokens": 9},
        {"max_tokens": 9, "max_completion_tokens": None},
    ],
)
def test_a_limit_goes_by_the_name_that_is_known_there(
    kind: str, endpoint: str, limit: str, name: str, asked: dict[str, Any]
) -> None:
    """By another it might be passed over, and the answer would have none."""
    made = task(endpoint, "@cf/x", **asked)
    changed, dropped = Fit(kinds.KINDS[kind], "@cf/x", endpoint, limit).changes(made)
    left = {key: value for key, value in made.request.items() if key not in dropped} | changed
    assert {key: left[key] for key in left if key.startswith("max_")} == {name: 9}


def test_prompts_in_forms_of_llama_server_do_not_fit() -> None:
    for endpoint, model, key in (
        ("/v1/completions", "gpt-3.5-turbo-instruct", "prompt"),
        ("/v1/embeddings", "text-embedding-3-large", "input"),
    ):
        assert "llama-server" in unfit("openai", endpoint, model, **{key: ["a", [1]]})
        assert unfit("openai", endpoint, model, **{key: ["a"]}) == ""
