"""Why tests of others pass at llama-server and not through Headrace: what differs on purpose."""

from __future__ import annotations

DIFFERENCES: dict[str, tuple[tuple[str, str], ...]] = {
    "openai": (
        (
            r"chat/test_completions.*all_params",
            "the test asks for `max_tokens: 0`, which OpenAI refuses of a chat, and so does "
            "Headrace; llama-server gives a token ([engines.md](engines.md))",
        ),
    ),
}
"""By suite: a pattern of the tests' names, and the reason, as it stands on the page."""
