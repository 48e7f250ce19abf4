"""How other machines reach the broker: where it listens, by which certificate, and how it is called
in tokens."""

from __future__ import annotations

import fcntl
import ipaddress
import platform
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.nats import certificates
from deploy.nats.certificates import Certificate
from deploy.nats.credentials import write_private
from deploy.nats.errors import StoreUnusable
from deploy.nats.rights import Account
from schemas.settings import Share
from schemas.settings.share import parts
from workers.process import ports

OWN = "own.pem"
"""An own certificate with the CA that it needs."""
MOST_ADDRESSES = 4
"""In a token, of those that nobody named."""
_PATIENCE = 5
"""Seconds that a handshake may take over a slow line."""
_ANYWHERE = {"0.0.0.0": ports.LOOPBACK, "::": "::1"}
_SIOCGIFADDR = 0x8915
"""Linux' question for the address of an interface (netdevice(7))."""
_ELSEWHERE = ("192.0.2.1", 9)
"""An address for documentation (RFC 5737). Nothing is sent there."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What `share` comes to.

    `url`, `ca` (a file, "": whom the system trusts) and `tls_name`: for processes of this machine;
    `addresses` and `fingerprint` (of the CA, hex): for tokens; `config`: for the server.
    """

    url: str
    ca: str
    tls_name: str
    addresses: tuple[str, ...]
    fingerprint: str
    config: Mapping[str, Any]
    share: Share

    @property
    def shown(self) -> bytes:
        """The file with the certificates that the server shows, as it is now. Raises OSError."""
        return Path(self.config["tls"]["cert_file"]).read_bytes()


def prepare(store: Path, share: Share) -> Shared:
    """Have the certificate that `share` wants. Raises StoreUnusable."""
    local = _ANYWHERE.get(share.host, share.host)
    addresses = tuple(_addresses(share))
    if share.certificate:
        chain, key, ca = _own(store, share)
    else:
        own = {local, ports.LOOPBACK, "::1", "localhost", *_named(), *machine_addresses()}
        hosts = {parts(each)[1] for each in share.names}
        certificates.obtain(store, own | hosts)
        chain, key, ca = (store / name for name in ("server.pem", "server.key", "ca.pem"))
    leaf = certificates.read(chain)[0]
    told = ca if not share.proxied else None
    fingerprint = certificates.read(told)[0].fingerprint.hex() if told else ""
    return Shared(
        url=f"tls://{_host(local)}:{share.port}",
        ca=str(ca) if ca else "",
        tls_name="" if local in leaf.names else _best(leaf),
        addresses=addresses,
        fingerprint=fingerprint,
        config=_config(share, chain, key),
        share=share,
    )


def ending(store: Path, share: Share) -> Iterator[str]:
    """That the server's certificate has ended, soon will, or has not begun, and what to do. Raises
    StoreUnusable."""
    if not share.host:
        return
    file = Path(share.certificate) if share.certificate else store / certificates.SERVER
    mend = "start the broker again, and it makes a new one"
    if share.certificate:
        mend = "put a newer one in its place, and start the broker again"
    if fault := certificates.read(file)[0].fault():
        yield f"the broker's certificate {file} {fault}: {mend}"


def _config(share: Share, chain: Path, key: Path) -> dict[str, Any]:
    tls = {"cert_file": str(chain), "key_file": str(key), "timeout": _PATIENCE}
    made: dict[str, Any] = {"listen": f"{_host(share.host)}:{share.port}", "tls": tls}
    if share.websocket_port > 0:
        host, safe = (share.host, {"tls": tls}) if share.websocket_tls else _plain()
        # Programs name no origin. A page of the web does, and has no business here.
        listen = {"host": host, "port": share.websocket_port, "same_origin": True}
        made["websocket"] = {**listen, **safe}
    if share.leaf_port > 0:
        made["leafnodes"] = {"listen": f"{_host(share.host)}:{share.leaf_port}", "tls": tls}
        made["default_js_domain"] = {Account.MEMBERS: ""}
    return made


def _plain() -> tuple[str, dict[str, Any]]:
    """For a proxy on this machine, which has the TLS."""
    return ports.LOOPBACK, {"no_tls": True}


def _own(store: Path, share: Share) -> tuple[Path, Path, Path | None]:
    """The files of an own certificate: chain, key and the CA that others must be told of."""
    chain, key = Path(share.certificate).absolute(), Path(share.key).absolute()
    if not key.is_file():
        raise StoreUnusable(f"[share] key: {key}: no such file")
    found = certificates.read(chain)
    ca = Path(share.ca).absolute() if share.ca else None
    if ca and (known := certificates.read(ca)[0]).fingerprint not in {
        each.fingerprint for each in found
    }:
        # Who joins looks for the CA in what the server shows.
        if not known.of_ca:
            raise StoreUnusable(f"[share] ca: {ca} is no certificate of a CA")
        write_private(store / OWN, chain.read_text() + "\n" + ca.read_text())
        chain = store / OWN
    return chain, key, ca


def _best(certificate: Certificate) -> str:
    """A name by which it can be checked."""
    names = [name for name in certificate.names if not name.startswith("*")]
    if not names:
        raise StoreUnusable(
            f"the certificate {certificate.subject} is for no host or address: it needs a "
            "subjectAltName"
        )
    return names[0]


def _addresses(share: Share) -> Iterator[str]:
    """The addresses for tokens."""
    for name in share.names:
        scheme, host, port = parts(name)
        if scheme == "wss":
            yield f"wss://{_host(host)}" + (f":{port}" if port else "")
        else:
            yield f"tls://{_host(host)}:{port or share.port}"
    if share.names:
        return
    alone = [] if share.host in _ANYWHERE else [share.host]
    hosts = (alone or machine_addresses() or [_ANYWHERE.get(share.host, share.host)])[
        :MOST_ADDRESSES
    ]
    yield from (f"tls://{_host(host)}:{share.port}" for host in hosts)
    if share.websocket_port > 0 and share.websocket_tls:
        yield f"wss://{_host(hosts[0])}:{share.websocket_port}"


def machine_addresses() -> list[str]:
    """The addresses of this machine that others may reach: that of its way out first."""
    found = [*_way_out(), *_interfaces()]
    return [each for each in dict.fromkeys(found) if not ipaddress.ip_address(each).is_loopback]


def _way_out() -> Iterator[str]:
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect(_ELSEWHERE)
        yield str(asking.getsockname()[0])


def _interfaces() -> Iterator[str]:
    """IPv4 addresses of all interfaces, as Linux tells them; other systems tell none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            with suppress(OSError):
                asked = struct.pack("256s", name.encode()[:15])
                told = fcntl.ioctl(asking.fileno(), _SIOCGIFADDR, asked)
                yield socket.inet_ntoa(told[20:24])


def _named() -> set[str]:
    """What this machine calls itself."""
    names = {platform.node(), socket.getfqdn()}
    return {name for name in names if parts(name)[1] == name and name}


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
