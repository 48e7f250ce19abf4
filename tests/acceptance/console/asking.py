"""What tests of the console ask of the ingress behind it."""

from __future__ import annotations

from typing import Any

import aiohttp

from deploy import home
from tests.acceptance.console.browser import Console


async def chat(console: Console, words: int = 3, key: str = "", **fields: Any) -> str:
    """What one streamed chat with the echo of so many words gets. `key`: another than that of
    `up`."""
    messages = [{"role": "user", "content": "word " * words}]
    body = {"model": "echo", "stream": True, "messages": messages, **fields}
    where = f"{console.ingress}/v1/chat/completions"
    async with _client(key or console.key) as http, http.post(where, json=body) as answer:
        return await answer.text()


async def new_key(console: Console, name: str, *scopes: str) -> str:
    """Another key, of an account of its own, and no admin's."""
    body = {"name": name, "account": name, "scopes": scopes}
    admin = home.found_console_key(console.data)
    assert admin is not None
    where = f"{console.ingress}/admin/keys"
    async with _client(admin) as http, http.post(where, json=body) as answer:
        said = await answer.json()
    secret: str = said["secret"]
    return secret


def _client(key: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(headers={"Authorization": f"Bearer {key}"})
