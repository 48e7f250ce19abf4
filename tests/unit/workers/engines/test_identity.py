"""An engine of another kind than its settings name, as far as servers say who they are."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from schemas.settings import Engine
from tests.doubles.llamacpp.server import LlamaCpp
from tests.doubles.ollama.server import Ollama
from tests.doubles.sdserver.server import SdServer
from tests.doubles.vllm.server import Vllm
from tests.doubles.whisper.server import whisper_sim
from workers.engines import KINDS, identity
from workers.engines.base import EngineFault, SaysKind

SERVERS: dict[str, Callable[[], AbstractAsyncContextManager[Any]]] = {
    "llamacpp": LlamaCpp,
    "vllm": Vllm,
    "ollama": Ollama,
    "whisper": whisper_sim,
    "sdcpp": SdServer,
}


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_server_says_what_it_is_to_an_engine_of_any_kind(kind: str) -> None:
    async with SERVERS[kind]() as server:
        for name in SERVERS:
            engine = KINDS[name](Engine(name="e", kind=name, url=server.url))
            assert isinstance(engine, SaysKind)
            try:
                assert await engine.said_kind() == kind
            finally:
                await engine.close()


async def test_one_that_is_away_says_nothing() -> None:
    engine = KINDS["vllm"](Engine(name="e", kind="vllm", url="http://127.0.0.1:1"))
    assert isinstance(engine, SaysKind)
    assert await engine.said_kind() == ""
    with pytest.raises(EngineFault) as fault:
        await engine.discover()
    assert fault.value.hint == "Start it, or correct its url, which is http://127.0.0.1:1"
    await engine.close()


@pytest.mark.parametrize(
    ("kind", "said", "told"),
    [
        ("vllm", "llamacpp", "it is llama-server, and named as kind 'vllm' here: set kind = "
         "'llamacpp', or --engine llamacpp:gpu=URL"),
        ("llamacpp", "vllm", "it is vLLM, and named as kind 'llamacpp' here: set kind = 'vllm', "
         "or --engine vllm:gpu=URL"),
        ("vllm", "vllm", ""),
        ("vllm", "", ""),
        ("embedded", "llamacpp", ""),
        ("openai", "llamacpp", ""),
    ],
)  # fmt: skip
def test_what_is_told_of_it(kind: str, said: str, told: str) -> None:
    assert identity.mismatch("gpu", kind, said) == told


@pytest.mark.parametrize(
    "page", [b"", b"[]", b"{}", b'{"data": []}', b'{"data": [{"owned_by": 1}]}']
)
def test_a_page_that_says_nothing(page: bytes) -> None:
    assert identity._told(page) == ""
