"""Where a text may be parsed in one go: each such place has a bound on what it gets, or a reason.

All else goes through `schemas.api.piecewise`, so that others have their turns.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARSERS = {"orjson.loads", "json.loads", "msgpack.unpackb"}
PACKAGES = ("ingress", "schemas", "workers", "fallback")

MESSAGES = {
    *("fallback/credits/admin.py", "fallback/credits/journal.py", "fallback/credits/state.py"),
    *("ingress/cache/items.py", "ingress/cache/store.py", "ingress/endpoints/admin.py"),
    *("ingress/idempotency/player.py", "ingress/jobs/dispatch.py", "ingress/jobs/replies.py"),
    *("ingress/jobs/watch.py", "schemas/alerts.py", "schemas/client.py", "schemas/frames.py"),
    *("schemas/jobs.py", "schemas/limits.py", "schemas/nodes.py", "schemas/ranks.py"),
    *("schemas/registry.py", "schemas/requests.py", "schemas/usage.py", "schemas/waiting.py"),
}
"""The broker's largest message has 2 MB, and these are smaller; of what is kept, its head."""
EVENTS = {
    *("schemas/api/sse.py", "workers/engines/llamacpp/aggregate.py"),
    *("workers/engines/llamacpp/responses.py", "workers/engines/llamacpp/tools/chat.py"),
    *("workers/engines/llamacpp/tools/parse.py", "workers/engines/openai/media_use.py"),
    "workers/engines/openai/rewrite.py",
}
"""Events of streams, which the splitter bounds, and texts in them; documents that are small."""
PAGES = {
    *("workers/engines/http/upstream.py", "workers/engines/identity.py"),
    *("workers/engines/llamacpp/capabilities.py", "workers/engines/llamacpp/engine.py"),
    *("workers/engines/llamacpp/questions.py", "workers/engines/ollama/engine.py"),
    *("workers/engines/openai/continued.py", "workers/engines/sdcpp/engine.py"),
    "workers/engines/whisper/answer.py",
}
"""What engines that were configured say of themselves, count, draw or hear."""
ERRORS = {
    *("fallback/providers/errors.py", "ingress/http/error_format.py"),
    *("schemas/api/loose_json.py", "workers/engines/openai/refusal.py"),
}
"""Errors, which are cut, and what is mended, up to 4 MiB."""
SMALL = {
    *("ingress/endpoints/keys.py", "ingress/answer/schema_checker.py"),
    *("ingress/answer/schema_child.py", "fallback/providers/request.py", "schemas/api/shape.py"),
    *("schemas/api/plain.py", "schemas/api/piecewise.py", "workers/engines/openai/parsed.py"),
    *("schemas/api/chat/formats.py", "schemas/api/messages/answer.py"),
    *("schemas/api/ollama/answer.py", "schemas/api/ollama/memory.py"),
    *("workers/engines/llamacpp/tools/prompt.py", "workers/engines/ollama/own_api.py"),
}
"""They look at the size first, get a piece, have a process of their own, or read the arguments of
one call that a model has written."""


def in_one_go() -> Iterator[str]:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and ast.unparse(node) in PARSERS:
                    yield path.relative_to(ROOT).as_posix()


def test_what_is_parsed_in_one_go_has_a_bound() -> None:
    known = MESSAGES | EVENTS | PAGES | ERRORS | SMALL
    assert set(in_one_go()) == known
