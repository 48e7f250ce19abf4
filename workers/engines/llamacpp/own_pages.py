"""llama-server's tokens of a text, and back, for requests in either form (`schemas.api.tokens`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from schemas.api.base import Document
from schemas.api.endpoints import DETOKENIZE, TEMPLATE, TOKENIZE
from schemas.api.tokens import in_both_forms, text_document, wants_pieces
from schemas.jobs import Job

Page = Callable[[str, Mapping[str, Any]], Awaitable[Document]]
"""Asks a path of the server. Raises Refusal, EngineFault."""
_OF_CHATS = ("messages", "tools", "chat_template_kwargs", "add_generation_prompt")


PATHS = (TOKENIZE.path, DETOKENIZE.path)


async def answer(page: Page, job: Job, request: Mapping[str, Any], longest: int) -> Document:
    """`longest`: how many tokens the context of a slot holds."""
    if job.endpoint == TOKENIZE.path:
        return await _tokenized(page, request, longest)
    found = await page(DETOKENIZE.path, {"tokens": request["tokens"]})
    return text_document(found["content"])


async def _tokenized(page: Page, request: Mapping[str, Any], longest: int) -> Document:
    text, special = request.get("content"), request.get("add_special", False)
    if "prompt" in request:
        text, special = request["prompt"], request.get("add_special_tokens", True)
    elif "messages" in request:
        chat = {name: request[name] for name in _OF_CHATS if name in request}
        text = (await page(TEMPLATE.path, chat))["prompt"]
        special = request.get("add_special_tokens", False)
    pieces = wants_pieces(request)
    asked = {
        "content": text,
        "add_special": special,
        "parse_special": request.get("parse_special", True),
        "with_pieces": pieces,
    }
    found = (await page(TOKENIZE.path, asked))["tokens"]
    if not pieces:
        return in_both_forms(request, found, [], longest)
    ids, texts = [each["id"] for each in found], [each["piece"] for each in found]
    return in_both_forms(request, ids, texts, longest)
