"""A broker that other machines reach: with TLS alone, also as WebSockets, and by key."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from deploy import home
from deploy.nats import broker as brokers
from deploy.nats import certificates
from deploy.nats import store as stores
from deploy.nats.broker import Broker
from deploy.nats.errors import PortTaken, StoreUnusable
from deploy.nodes import chain
from schemas import bus as buses
from schemas import nkeys
from schemas.bus import Bus, BusError
from schemas.nkeys import KeyPair
from schemas.settings import Nats, Share
from tests import ports
from tests.integration.deploy.roles import PATIENCE

INBOX = "_A.test"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def shared(place: Path) -> Iterator[Broker]:
    share = Share(host="127.0.0.1", port=ports.free(), websocket_port=ports.free())
    with brokers.start(place / "broker", share=share) as running:
        yield running


def login(running: Broker, **changes: Any) -> Nats:
    user, password = running.users["admin"]
    ca = str(running.store / certificates.CA)
    said = {"url": running.url, "user": user, "password": SecretStr(password), "ca": ca, **changes}
    return Nats.model_validate(said)


def web(running: Broker) -> str:
    listening = json.loads((running.store / "nats-server.conf").read_text())["websocket"]
    return f"wss://127.0.0.1:{listening['port']}"


async def echo(bus: Bus, *payloads: bytes) -> list[bytes]:
    """What comes back of what is posted."""
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    subscription = await bus.subscribe("echo", lambda message: heard.put_nowait(message.data))
    for payload in payloads:
        bus.post("echo", payload)
    async with asyncio.timeout(PATIENCE):
        found = [await heard.get() for _ in payloads]
    await subscription.stop()
    return found


@pytest.mark.parametrize("scheme", ["tls", "wss"])
async def test_messages_of_all_sizes_come_and_go(shared: Broker, scheme: str) -> None:
    url = shared.url if scheme == "tls" else web(shared)
    bus = await buses.connect(login(shared, url=url), "test", INBOX)
    payloads = [b"x", *(b"%d" % number for number in range(500)), b"y" * 1_500_000, b"z"]
    try:
        assert await echo(bus, *payloads) == payloads
        await bus.settle()
        await bus.flush()
        assert (await bus.api("INFO"))["streams"] == 0
    finally:
        await bus.close()


@pytest.mark.parametrize("scheme", ["tls", "wss"])
async def test_the_connection_comes_back(shared: Broker, scheme: str) -> None:
    url = shared.url if scheme == "tls" else web(shared)
    bus = await buses.connect(login(shared, url=url), "test", INBOX)
    again = asyncio.Event()
    bus.on_reconnect(again.set)
    try:
        await asyncio.to_thread(shared.restart)
        bus.post("nobody", b"kept while the broker is away")
        async with asyncio.timeout(PATIENCE):
            await again.wait()
        assert await echo(bus, b"here") == [b"here"]
    finally:
        await bus.close()


def test_what_is_written_down_leads_to_it(shared: Broker, place: Path) -> None:
    found = home.login(place, "worker")
    assert found
    assert found["url"].startswith("tls://127.0.0.1:")
    assert found["ca"] == str(shared.store / certificates.CA)
    assert found["tls_name"] == ""
    for name in (certificates.CA_KEY, certificates.SERVER_KEY):
        assert (shared.store / name).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ca": ""}, r"certificate of tls://127\.0\.0\.1:\d+ is of a CA that is not known here"),
        ({"tls_name": "other.example"}, "is for other names .*other.example"),
    ],
)
async def test_who_is_not_trusted_is_told_why(
    shared: Broker, changes: dict[str, str], said: str
) -> None:
    with pytest.raises(BusError, match=said):
        await buses.connect(login(shared, **changes), "test", INBOX)
    for_web = login(shared, url=web(shared), **changes)
    with pytest.raises(BusError, match=said.replace("tls:", "wss:")):
        await buses.connect(for_web, "test", INBOX)


async def test_nothing_is_said_to_a_broker_without_tls(tmp_path: Path) -> None:
    with brokers.start(tmp_path / "broker", 0) as plain:
        for url in (plain.url.replace("nats:", "tls:"), plain.url):
            certificates.obtain(plain.store, ["localhost"])
            with pytest.raises(BusError, match="has no TLS, and without it nothing is said"):
                await buses.connect(login(plain, url=url), "test", INBOX)
        log = plain.log.read_text()
    assert "admin" not in log


async def test_a_key_logs_in(tmp_path: Path) -> None:
    seed = tmp_path / "seed"
    pair, other = nkeys.make(), nkeys.make()
    with keyed(tmp_path / "broker", pair) as running:
        seed.write_text(pair.seed + "\n")
        bus = await buses.connect(Nats(url=running, seed=str(seed)), "test", INBOX)
        assert await echo(bus, b"here") == [b"here"]
        await bus.close()
        seed.write_text(other.seed)
        with pytest.raises(BusError, match=r"refuses the key in .*seed.*Join again"):
            await buses.connect(Nats(url=running, seed=str(seed)), "test", INBOX)
        seed.write_text("SUnothing")
        with pytest.raises(BusError, match=r"the seed in .*seed: a seed has"):
            await buses.connect(Nats(url=running, seed=str(seed)), "test", INBOX)
        with pytest.raises(BusError, match="No such file"):
            await buses.connect(Nats(url=running, seed=str(tmp_path / "no")), "test", INBOX)


class keyed:
    """A broker that knows one key; its url."""

    def __init__(self, store: Path, pair: KeyPair) -> None:
        self._opened = brokers.start(store, 0)
        self._public = pair.public

    def __enter__(self) -> str:
        running = self._opened.__enter__()
        more = {"accounts": {"A": {"users": [{"nkey": self._public}]}}, "system_account": "SYS"}
        more["accounts"]["SYS"] = {"users": []}  # type: ignore[index]
        config = running._config
        object.__setattr__(config, "more", more)
        running.restart()
        return running.url

    def __exit__(self, *fault: Any) -> None:
        self._opened.__exit__(*fault)


async def test_a_certificate_is_made_anew_while_the_broker_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "LIFE", 59 * certificates.DAY)
    with brokers.start(tmp_path, share=Share(host="127.0.0.1", port=ports.free())) as running:
        bus = await buses.connect(login(running), "test", INBOX)
        (first, _) = await asyncio.to_thread(chain.shown, running.url)
        monkeypatch.undo()
        assert running.renew()
        assert not running.renew()
        async with asyncio.timeout(PATIENCE):
            while (shown := await asyncio.to_thread(chain.shown, running.url))[0] == first:
                await asyncio.sleep(0.02)
        assert certificates.of_der(shown[0]).left() > 300 * certificates.DAY
        assert await echo(bus, b"still here") == [b"still here"]
        assert bus.epoch == 0
        await bus.close()
    with brokers.start(tmp_path / "alone", 0) as alone:
        assert not alone.renew()


async def test_a_proxy_that_ends_tls_itself(tmp_path: Path) -> None:
    """To the broker it speaks without TLS, over loopback; clients see its own certificate."""
    share = Share(
        host="127.0.0.1",
        port=ports.free(),
        names=["wss://localhost"],
        websocket_port=ports.free(),
        websocket_tls=False,
    )
    with brokers.start(tmp_path, share=share) as running:
        plain = f"ws://127.0.0.1:{share.websocket_port}"
        bus = await buses.connect(login(running, url=plain, ca=""), "test", INBOX)
        assert await echo(bus, b"here") == [b"here"]
        await bus.close()
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(tmp_path / certificates.SERVER, tmp_path / certificates.SERVER_KEY)
        proxy = await asyncio.start_server(_passing(share.websocket_port), "127.0.0.1", ssl=context)
        async with proxy:
            port = proxy.sockets[0].getsockname()[1]
            secure = login(running, url=f"wss://localhost:{port}/")
            bus = await buses.connect(secure, "test", INBOX)
            assert await echo(bus, b"here", b"x" * 300_000) == [b"here", b"x" * 300_000]
            await bus.close()


def _passing(port: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]:
    """Passes bytes on to a port, both ways."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(copy(reader, ours), copy(theirs, writer))

    return serve


def test_a_taken_port_is_told(tmp_path: Path, shared: Broker) -> None:
    share = Share(host="127.0.0.1", port=int(shared.url.rpartition(":")[2]))
    with (
        pytest.raises(PortTaken, match=r"is taken: .*\[share\] port"),
        brokers.start(tmp_path / "other", share=share),
    ):
        pass


async def test_an_own_certificate(tmp_path: Path) -> None:
    """Here of a private CA, that is told to who joins."""
    own = tmp_path / "own"
    own.mkdir()
    certificates.obtain(own, ["hub.example.org"])
    leaf = own / "leaf.pem"
    leaf.write_text((own / certificates.SERVER).read_text().partition("-----END")[0] + TAIL)
    share = Share(
        host="127.0.0.1",
        port=ports.free(),
        certificate=str(leaf),
        key=str(own / certificates.SERVER_KEY),
        ca=str(own / certificates.CA),
        names=["hub.example.org:14222", "wss://hub.example.org"],
    )
    with brokers.start(tmp_path / "broker", share=share):
        found = stores.find(tmp_path / "broker")
        assert found
        assert found.tls_name == "hub.example.org"
        assert found.addresses == ("tls://hub.example.org:14222", "wss://hub.example.org")
        ca = certificates.read(own / certificates.CA)[0]
        assert found.fingerprint == ca.fingerprint.hex()
        bus = await buses.connect(Nats.model_validate(home.login(tmp_path, "admin")), "test", INBOX)
        await bus.close()
    assert not (tmp_path / "broker" / certificates.CA).exists()
    missing = share.model_copy(update={"key": str(own / "none")})
    with (
        pytest.raises(StoreUnusable, match=r"\[share\] key: .*no such file"),
        brokers.start(tmp_path / "broker", share=missing),
    ):
        pass


TAIL = "-----END CERTIFICATE-----\n"
