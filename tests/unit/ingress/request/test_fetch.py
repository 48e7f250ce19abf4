"""What clients name by URL is fetched from public addresses alone, whatever they try."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver

from ingress.http.held import Bodies, Held
from ingress.request.addresses import is_public
from ingress.request.fetch import REDIRECTS, Fetcher, FetchError
from schemas import settings
from tests.unit.fakes import PATIENCE
from tests.unit.ingress.request.web_server import (
    INSIDE,
    OUTSIDE,
    FakeResolver,
    WebServer,
    web_server,
)

EVERY_PORT = list(range(1, 65_536))
HELD = Held(Bodies(settings.Ingress()), "k")


@pytest.fixture
async def server() -> AsyncIterator[WebServer]:
    async with web_server() as opened:
        yield opened


@asynccontextmanager
async def fetching(
    names: AbstractResolver | None = None, public: Any = OUTSIDE.__eq__, **config: Any
) -> AsyncIterator[Fetcher]:
    """By default, `OUTSIDE` alone counts as public."""
    config = {"fetch_ports": EVERY_PORT, **config}
    fetcher = Fetcher(settings.Ingress(**config), names, public)
    try:
        yield fetcher
    finally:
        await fetcher.close()


async def refused(url: str, names: AbstractResolver | None = None, **config: Any) -> str:
    async with fetching(names, **config) as fetcher:
        with pytest.raises(FetchError) as fault:
            await fetcher.get(url, "image/", HELD)
    return str(fault.value)


async def test_a_picture_is_fetched(server: WebServer) -> None:
    async with fetching(FakeResolver(pictures_example=[OUTSIDE])) as fetcher:
        found = await fetcher.get(server.url("pictures.example"), "image/", HELD)
    assert (found.content, found.content_type) == (server.content, "image/png")
    assert server.asked == [("pictures.example", "/picture.png")]


async def test_by_address_too(server: WebServer) -> None:
    async with fetching() as fetcher:
        assert (await fetcher.get(server.url(OUTSIDE), "image/", HELD)).content == server.content


async def test_nothing_of_this_process_goes_along(
    server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://{INSIDE}:{server.port}")
    async with fetching() as fetcher:
        for _ in range(2):
            await fetcher.get(server.url(OUTSIDE, "/cookie"), "image/", HELD)
    assert len(server.headers) == 4
    for headers in server.headers:
        usual = {"Host", "Accept", "User-Agent", "Accept-Encoding", "Connection"}
        assert headers.keys() == usual
        assert headers["User-Agent"] == "headrace"


# What the world would really be asked: addresses that are not public, in all spellings.

INWARD = [
    "http://127.0.0.1/",
    "http://127.0.0.1./",
    "http://127.1/",
    "http://127.0.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.0.0.1/",
    "http://0177.0.0.1/",
    "http://017700000001/",
    "http://0/",
    "http://0.0.0.0/",
    "http://127.0.0.1:80/",
    "http://①②⑦.⓪.⓪.①/",
    "http://１２７.０.０.１/",
    "http://127。0。0。1/",
    "http://[::1]/",
    "http://[::]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::127.0.0.1]/",
    "http://[2002:7f00:1::]/",
    "http://[2001:0:7f00:1::]/",
    "http://[fe80::1]/",
    "http://[fe80::1%25lo]/",
    "http://[fc00::1]/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://[ff02::1]/",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://192.168.1.1/",
    "http://100.100.100.200/latest/meta-data/",
    "http://169.254.169.254/latest/meta-data/",
    "http://168.63.129.16/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    "http://240.0.0.1/",
    "https://127.0.0.1/",
    "https://[::1]:443/",
    "http://localhost/",
    "http://LOCALHOST./",
    "http://inward.example/",
    "http://inward6.example/",
    "http://mixed.example/",
    "http://mapped.example/",
    "http://metadata.google.internal/",
    "http://unknown.example/",
]
MALFORMED = [
    "",
    "http://",
    "http:///picture",
    "http:127.0.0.1/",
    "//127.0.0.1/",
    "/etc/passwd",
    "file:///etc/passwd",
    "ftp://pictures.example/",
    "gopher://pictures.example/",
    "unix:/run/docker.sock",
    "http+unix://%2Frun%2Fdocker.sock/",
    "javascript:alert(1)",
    "http://user:secret@pictures.example/",
    "http://user@pictures.example/",
    "http://:secret@pictures.example/",
    "http://pictures.example\\@127.0.0.1/",
    "http://pictures.example\r\nHost: 127.0.0.1/",
    "http://pictures.example\t/",
    " http://pictures.example/",
    "http://pictures example/",
    "http://pictures.example:99999/",
    "http://pictures.example:0/",
    "http://pictures.example:-80/",
    "http://pictures.example:80:80/",
    "http://[::1/",
    "http://[127.0.0.1]/",
    "http://[pictures.example]/",
    "http://%31%32%37.0.0.1/",
    "http://127.0.0.1%00.pictures.example/",
    "http://pictures.example/" + "a" * 9000,
    "http://\x00/",
    "http://\u202epictures.example/",
    "http://xn--/",
    "http://" + "a" * 300 + ".example/",
]


def world() -> FakeResolver:
    return FakeResolver(
        pictures_example=["93.184.215.14"],
        localhost=[INSIDE],
        inward_example=["10.1.2.3"],
        inward6_example=["fd00::1"],
        mixed_example=["93.184.215.14", "127.0.0.1"],
        mapped_example=["::ffff:127.0.0.1"],
        metadata_google_internal=["169.254.169.254"],
    )


def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise AssertionError("a socket was made")

    monkeypatch.setattr("ingress.request.fetch.socket.socket", fail)


async def test_nobody_is_asked_who_is_not_public(
    subtests: pytest.Subtests, monkeypatch: pytest.MonkeyPatch
) -> None:
    for url in [*INWARD, *MALFORMED]:
        with subtests.test(f"{url!r:.60}"):
            no_sockets(monkeypatch)
            why = await refused(url, world(), public=is_public, fetch_ports=[80, 443])
            assert why.endswith(".")
            assert len(why) < 200


@pytest.mark.parametrize("port", [22, 25, 8080, 8222, 6379])
async def test_nor_at_other_ports(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    no_sockets(monkeypatch)
    names = FakeResolver(pictures_example=["93.184.215.14"])
    url = f"http://pictures.example:{port}/"
    why = await refused(url, names, public=is_public, fetch_ports=[80, 443])
    assert "port" in why
    assert "80, 443" in why
    assert names.asked == []


async def test_the_real_resolver_is_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    no_sockets(monkeypatch)
    assert "not public" in await refused("http://localhost/", public=is_public)


async def test_it_may_be_allowed(server: WebServer) -> None:
    async with fetching(public=is_public, fetch_private=True) as fetcher:
        found = await fetcher.get(server.url(INSIDE), "image/", HELD)
    assert found.content == server.content


# A name that leads elsewhere the next time, and redirects.


async def test_a_name_that_changes_between_two_questions(server: WebServer) -> None:
    names = FakeResolver(rebound_example=[[OUTSIDE], [INSIDE]])
    server.targets = {"/again": server.url("rebound.example")}
    assert "not public" in await refused(server.url("rebound.example", "/again"), names)
    assert server.asked == [("rebound.example", "/again")]


async def test_the_address_itself_is_checked_when_its_socket_is_made(server: WebServer) -> None:
    answers = iter([True, False])
    names = FakeResolver(pictures_example=[INSIDE])
    why = await refused(server.url("pictures.example"), names, public=lambda _: next(answers))
    assert "not public" in why
    assert server.asked == []


async def test_all_addresses_of_a_name_have_to_be_public(server: WebServer) -> None:
    names = FakeResolver(mixed_example=[OUTSIDE, INSIDE])
    assert "not public" in await refused(server.url("mixed.example"), names)
    assert server.asked == []


async def test_redirects_are_followed(server: WebServer) -> None:
    names = FakeResolver(pictures_example=[OUTSIDE], other_example=[OUTSIDE])
    server.targets = {
        "/a": "/b",
        "/b": server.url("other.example", "/c"),
        "/c": f"//pictures.example:{server.port}/picture.png",
    }
    async with fetching(names) as fetcher:
        found = await fetcher.get(server.url("pictures.example", "/a"), "image/", HELD)
    assert found.content == server.content
    assert len(server.asked) == 4


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.1:{port}/picture.png",
        "http://2130706433:{port}/picture.png",
        "http://[::1]:{port}/picture.png",
        "http://inward.example:{port}/picture.png",
        "//127.0.0.1:{port}/picture.png",
        "http://user:secret@outside.example:{port}/picture.png",
        "http://outside.example:1{port}/picture.png",
        "file:///etc/passwd",
        "data:image/png;base64,AAAA",
        "http://169.254.169.254/latest/meta-data/",
        "http://[",
        "http://a b/",
        "\\\\127.0.0.1\\picture.png",
    ],
)
async def test_redirects_lead_to_no_other_place(server: WebServer, target: str) -> None:
    names = FakeResolver(inward_example=[INSIDE], outside_example=[OUTSIDE])
    server.targets = {"/out": target.format(port=server.port)}
    await refused(server.url("outside.example", "/out"), names)
    assert server.asked[0] == ("outside.example", "/out")
    assert all(path != "/picture.png" for _, path in server.asked)


async def test_redirects_end(server: WebServer) -> None:
    assert "redirects more than" in await refused(server.url(OUTSIDE, "/loop"))
    assert len(server.asked) == REDIRECTS + 1
    assert "nowhere" in await refused(server.url(OUTSIDE, "/nowhere"))


# Answers that are not what was asked for.


@pytest.mark.parametrize(
    ("path", "why"),
    [("/missing", "status 404"), ("/html", "'text/html'"), ("/gzip", "compressed")],
)
async def test_answers_that_are_no_picture(server: WebServer, path: str, why: str) -> None:
    server.content = gzip.compress(bytes(10_000_000))
    assert why in await refused(server.url(OUTSIDE, path))


async def test_a_size_that_is_announced_is_believed(server: WebServer) -> None:
    server.content = bytes(5001)
    assert "5000 bytes" in await refused(server.url(OUTSIDE), fetch_size=5000)
    server.content = bytes(5000)
    async with fetching(fetch_size=5000) as fetcher:
        assert len((await fetcher.get(server.url(OUTSIDE), "image/", HELD)).content) == 5000


async def test_an_answer_without_end_is_cut(server: WebServer) -> None:
    assert "bytes" in await refused(server.url(OUTSIDE, "/endless"), fetch_size=100_000)
    async with asyncio.timeout(PATIENCE):
        await server.left.wait()


async def test_an_answer_that_does_not_come_is_not_waited_for(server: WebServer) -> None:
    limit = 0.05
    while not server.asked:  # on a busy machine the time may be up before the question is there
        why = await refused(server.url(OUTSIDE, "/silent"), fetch_timeout=limit)
        assert why == f"did not answer in full within {limit:g} seconds."
        limit *= 2
        assert limit < PATIENCE
    async with asyncio.timeout(PATIENCE):
        await server.left.wait()


async def test_who_does_not_listen_cannot_be_reached(server: WebServer) -> None:
    port = server.port
    async with asyncio.timeout(PATIENCE):
        # Bound to another address of this machine alone.
        why = await refused(f"http://127.0.0.3:{port}/", public=lambda _: True)
    assert why == "cannot be reached."


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 100\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 302 Found\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    ],
)
async def test_broken_answers(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, OUTSIDE, 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        why = await refused(f"http://{OUTSIDE}:{port}/", fetch_timeout=5)
    assert why.endswith(".")


async def test_it_can_be_switched_off(server: WebServer) -> None:
    assert "data URLs alone" in await refused(server.url(OUTSIDE), fetch_size=0)
    assert server.asked == []


async def test_who_stops_waiting_stops_the_fetch(server: WebServer) -> None:
    async with fetching() as fetcher:
        task = asyncio.create_task(fetcher.get(server.url(OUTSIDE, "/silent"), "image/", HELD))
        await server.until("/silent")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(PATIENCE):
            await server.left.wait()
