"""What certificates a server shows to whoever asks, before anybody is trusted."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from deploy.nats import certificates
from deploy.nats.certificates import Certificate

PATIENCE = 5.0
"""Seconds for the connection, and for each answer."""
_PORTS = {"wss": 443, "tls": 4222, "nats": 4222}
_INFO = 2**16
"""Bytes of the broker's first line."""


class NoBroker(Exception):
    """There is none that can be spoken to by TLS; the message says why."""


def shown(url: str) -> list[bytes]:
    """The certificates of the server at `url`, in DER, its own first. Raises OSError, NoBroker."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 4222)
    with socket.create_connection((host, port), timeout=PATIENCE) as plain:
        if parts.scheme in ("tls", "nats"):
            _greet(plain)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # nothing is said here, but to look at who it is
        with context.wrap_socket(plain, server_hostname=host) as secured:
            return _chain(secured)


def trusted(ders: Iterable[bytes], fingerprint: bytes) -> bytes | None:
    """The one of these whose SHA-256 this is, if it is that of a CA."""
    for der in ders:
        found = _read(der)
        if found is not None and found.fingerprint == fingerprint and found.of_ca:
            return der
    return None


def leaf(ders: list[bytes]) -> Certificate | None:
    return _read(ders[0]) if ders else None


def _read(der: bytes) -> Certificate | None:
    try:
        return certificates.of_der(der)
    except ValueError:
        return None


def _greet(plain: socket.socket) -> None:
    """A broker speaks first, and says whether it has TLS. Raises OSError, NoBroker."""
    line = b""
    while not line.endswith(b"\r\n") and len(line) < _INFO:
        if not (more := plain.recv(_INFO)):
            break
        line += more
    kind, _, told = line.partition(b" ")
    try:
        info = json.loads(told)
    except ValueError:
        info = None
    if kind != b"INFO" or not isinstance(info, dict):
        raise NoBroker("no broker listens there")
    if not info.get("tls_required") and not info.get("tls_available"):
        raise NoBroker("the broker there has no TLS")


def _chain(secured: ssl.SSLSocket) -> list[bytes]:
    # Python has it from 3.13 on; before, only within.
    inner: Any = secured
    if hasattr(inner, "get_unverified_chain"):
        return list(inner.get_unverified_chain())
    return [
        ssl.PEM_cert_to_DER_cert(each.public_bytes())
        for each in inner._sslobj.get_unverified_chain()
    ]
