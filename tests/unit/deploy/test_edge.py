"""How commands find an ingress and a key."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from deploy import edge, home
from deploy.configure import Where
from deploy.edge import NoEdge


async def test_the_address_that_is_given(tmp_path: Path) -> None:
    for url in ("http://a:1", "http://a:1/", "http://a:1/v1", "http://a:1/v1/"):
        assert await edge.address(Where(tmp_path), url) == "http://a:1"


def test_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    here, elsewhere = Where(tmp_path), "http://a:1"
    with pytest.raises(NoEdge, match="give one with --key"):
        edge.key(here, None, None)
    assert not (tmp_path / "key").exists(), "none is made for a Headrace that never ran"
    own = home.own_key(tmp_path)
    assert edge.key(here, None, None) == own
    with pytest.raises(NoEdge, match="--key"):
        edge.key(here, elsewhere, None)  # this machine's own key is nobody else's business
    monkeypatch.setenv("OPENAI_API_KEY", "sk-there")
    assert edge.key(here, elsewhere, None) == "sk-there"
    assert edge.key(here, None, None) == own
    config = tmp_path / "h.toml"
    config.write_text('[[keys]]\nname = "a"\nsecret = "sk-0123456789abcdef"\n')
    assert edge.key(Where(tmp_path, config), None, None) == "sk-0123456789abcdef"
    assert edge.key(Where(tmp_path, config), elsewhere, "sk-given") == "sk-given"


async def test_an_ingress_that_says_nothing_is_told_of() -> None:
    with pytest.raises(NoEdge, match=r"^http://a:1: no answer\. Name an ingress by --url$"):
        async with edge.asking("http://a:1", "sk-x", 1.0):
            raise TimeoutError  # as asyncio raises it, without a word


async def test_what_does_not_speak_http_is_told_of() -> None:
    def say(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"N"}\r\n')
        writer.close()

    async with await asyncio.start_server(say, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(NoEdge, match="does not speak HTTP"):
            async with edge.asking(url, "sk-x", 5.0) as session, session.get(url):
                pass


async def test_what_is_no_url_is_told_of() -> None:
    with pytest.raises(NoEdge, match=r"^bogus: that is no URL such as http:"):
        async with edge.asking("bogus", "sk-x", 5.0) as session, session.get("bogus/v1/compat"):
            pass
