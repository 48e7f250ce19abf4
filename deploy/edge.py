"""Where a command finds an ingress, and how it asks there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator

import aiohttp

from deploy import home
from deploy.configure import CommandFailed, Where
from deploy.plan import ANYWHERE
from deploy.survey import Surveyor, connected
from schemas.bus import Bus
from schemas.settings import load

KEY_VARIABLE = "OPENAI_API_KEY"


class NoEdge(CommandFailed):
    """No ingress or no key is known, or it does not answer; the message says what to do."""


async def address(where: Where, url: str | None) -> str:
    """`url`, else the first ingress that is connected to the broker. Raises NoEdge, Unreachable,
    SettingsError or BusError."""
    if url:  # perhaps the base URL of an OpenAI client, which ends in /v1
        return url.rstrip("/").removesuffix("/v1")
    login = where.admin()
    async with connected(login, "headrace-edge") as bus:
        return await first(bus, login.shown)


async def first(bus: Bus, broker: str) -> str:
    """The first ingress that is connected to the broker. Raises NoEdge, BusError."""
    surveyor = Surveyor(bus, broker)
    await surveyor.gather()
    seen = (await surveyor.look()).ingresses
    if not seen:
        raise NoEdge("no ingress is connected: start one with 'headrace ingress'")
    # One that listens at every address of its machine is asked here.
    host, _, port = seen[0].address.rpartition(":")
    return f"http://{ANYWHERE.get(host.strip('[]'), host)}:{port}"


def key(where: Where, url: str | None, given: str | None) -> str:
    """`given`; without `url`, a key of the configuration or this user's own; else the key that
    OpenAI's clients use. Raises NoEdge, SettingsError."""
    if given:
        return given
    if not url:  # a key of this machine is none of another ingress' business
        for known in load(where.config).keys:
            return known.secret.get_secret_value()
        if (where.data / home.KEY_FILE).is_file():
            return home.own_key(where.data)
    if found := os.environ.get(KEY_VARIABLE):
        return found
    raise NoEdge(f"no API key is known: give one with --key, or in ${KEY_VARIABLE}")


@contextlib.asynccontextmanager
async def asking(address: str, key: str, silence: float) -> AsyncIterator[aiohttp.ClientSession]:
    """For requests to the ingress at `address`, whose answers take any time but pause for at most
    `silence` seconds. Raises NoEdge for one that does not answer."""
    limit = aiohttp.ClientTimeout(total=None, sock_connect=3, sock_read=silence)
    headers = {"authorization": f"Bearer {key}"}
    try:
        async with aiohttp.ClientSession(timeout=limit, headers=headers) as session:
            yield session
    except (aiohttp.ClientError, TimeoutError) as fault:
        why = str(fault) or "no answer"
        if isinstance(fault, aiohttp.InvalidURL):
            why = "that is no URL such as http://127.0.0.1:8080"
        if isinstance(fault, aiohttp.ClientResponseError):  # what it sent, in the words of a parser
            why = "what answers there does not speak HTTP"
        raise NoEdge(f"{address}: {why}. Name an ingress by --url") from None
