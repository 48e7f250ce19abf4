"""Why tests of others pass at llama-server and not through Headrace: what differs on purpose."""

from __future__ import annotations

DIFFERENCES: dict[str, tuple[tuple[str, str], ...]] = {
    "llama.cpp": (
        (
            r"thinking_history_in_template|test_template|test_cancel_request",
            "`/slots` and what `/props` has of a template are of one engine, and a fabric has many",
        ),
        (
            r"test_cors_origins_localhost_reflects",
            "names of headers are written in small letters here, and the test looks for them in "
            "others",
        ),
        (
            r"test_security.*cors",
            "which web pages may use the API is a setting, and by default those may that the "
            "machine itself serves (`ingress.cors_origins`); llama-server answers those of every "
            "origin, also with what a browser may keep of them",
        ),
        (
            r"test_security.*static_assets",
            "there is no page of its own (llama-server's web UI)",
        ),
        (
            r"test_security.*incorrect_api_key",
            "a refused key is a 401 of the type `invalid_request_error` and the code "
            "`invalid_api_key`, as OpenAI's is; llama-server's type is `authentication_error`",
        ),
        (
            r"test_security.*correct_api_key|test_completion\.py",
            "`/completions` without `/v1` is llama-server's own form of a text completion, as "
            "`/completion` is (`content`); here it is OpenAI's, with and without `/v1`",
        ),
        (
            r"test_embedding_pooling_none",
            "llama-server with `--pooling none` refuses OpenAI's `/v1/embeddings` and has an "
            "answer at its own `/embeddings` alone, so it does not become ready as an engine",
        ),
        (
            r"tool_result_with_image|vision_format_accepted",
            "a picture for a model that cannot see is the client's fault, a 400; llama-server says "
            "500",
        ),
        (
            r"anthropic_empty_messages",
            "a request without a message is a 400, as at Anthropic",
        ),
        (
            r"test_chat_completion_stream|timings_per_token|test_logprobs_stream",
            "the first event of a streamed chat has an empty text as its `content`, as OpenAI's "
            "has; llama-server's is null ([engines.md](engines.md))",
        ),
        (
            r"responses_stream_with_llama_telemetry",
            "a response that its limit cut ends with `response.incomplete`, as OpenAI's does; "
            "llama-server's ends with `response.completed`",
        ),
    ),
    "llama.cpp-tools": (
        (
            r"without_tool_call_slow.*functionary-medium-v3.1-256-tools4",
            "whether the tool is called is left to the model (`tool_choice` is null): it did so "
            "here each of three times, and directly in none; the cause is "
            "not known",
        ),
    ),
    "instructor": (
        (
            r"banned_words_validation",
            "the test wants any error: directly the model makes no call, which is one; here the "
            "call is made, and what the model says in it has no banned word",
        ),
    ),
    "openai": (
        (
            r"chat/test_completions.*all_params",
            "the test asks for `max_tokens: 0`, which OpenAI refuses of a chat, and so does "
            "Headrace; llama-server gives a token ([engines.md](engines.md))",
        ),
        (
            r"api_resources/test_completions.*all_params",
            "`suffix` does nothing with the model, so Headrace refuses it by name, unless the "
            "client is lenient ([fields.md](fields.md))",
        ),
        (
            r"test_embeddings.*all_params",
            "`dimensions` does nothing at llama-server, so Headrace refuses it by name, unless the "
            "client is lenient ([fields.md](fields.md))",
        ),
    ),
}
"""By suite: a pattern of the tests' names, and the reason, as it stands on the page."""
