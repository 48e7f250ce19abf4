"""Anthropic's documents and search results, as engines take them: as texts."""

from __future__ import annotations

from schemas.api import endpoints
from schemas.api.messages import documents
from schemas.jobs import Job
from workers.engines.openai import parsed
from workers.engines.openai.refusal import Refusal
from workers.engines.openai.stream import says

_AT = frozenset({endpoints.MESSAGES.path, endpoints.COUNT_TOKENS.path})


async def as_texts(job: Job, body: bytes) -> bytes:
    """The body with texts in their place; `body` itself if it has none. Raises Refusal if one is to
    be cited, unless the job is lenient: no engine says where it has its words from."""
    if job.endpoint not in _AT or not says(body, *documents.SIGNS):
        return body
    request = parsed.load(body)
    blocks = list(documents.found(request))
    if not blocks:
        return body
    cited = next((f"{path}.citations" for path, block in blocks if documents.cites(block)), "")
    if cited and not job.lenient:
        why = f"The engine cites nothing, so {cited!r} has no effect. Leave it out,"
        why += " or send the header 'x-headrace-lenient: true'."
        raise Refusal(why, param=cited, code="unsupported_parameter")
    return await parsed.written(documents.as_texts(request), body)
