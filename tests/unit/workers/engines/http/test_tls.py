"""What is said of faults of TLS at an engine: which certificate, why, and what to do."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.nats import certificates
from tests.doubles.secured import secured
from workers.engines.base import EngineFault
from workers.engines.http import tls
from workers.engines.http.upstream import Upstream


def fault(code: int, said: str) -> ssl.SSLCertVerificationError:
    made = ssl.SSLCertVerificationError(1, f"certificate verify failed: {said}")
    made.verify_code, made.verify_message = code, said
    return made


@pytest.mark.parametrize(
    ("code", "said", "why", "hint"),
    [
        (10, "certificate has expired", "has expired", "Renew it there"),
        (9, "certificate is not yet valid", "is not valid yet", "clock right?"),
        (18, "self-signed certificate", "is self-signed, and not trusted here", "SSL_CERT_FILE"),
        (
            20,
            "unable to get local issuer certificate",
            "is of a CA that is not trusted here (unable to get local issuer certificate)",
            "SSL_CERT_FILE",
        ),
        (
            62,
            "Hostname mismatch, certificate is not valid for 'gpu'.",
            "is for other names (Hostname mismatch, certificate is not valid for 'gpu')",
            "in the url",
        ),
        (99, "odd", "is not good (odd)", "See what it lacks"),
    ],
)
def test_a_certificate(code: int, said: str, why: str, hint: str) -> None:
    told, what = tls.reason(fault(code, said), "gpu:8443")
    assert told == f"the certificate of gpu:8443 {why}"
    assert hint in what


def test_no_tls_at_all() -> None:
    made = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number")
    made.reason = "WRONG_VERSION_NUMBER"
    told, what = tls.reason(made, "gpu:8443")
    assert told == "no TLS at gpu:8443"
    assert what == "TLS failed (wrong version number): is it https:// there, and not http://?"


@contextlib.asynccontextmanager
async def engine(folder: Path, name: str) -> AsyncIterator[Upstream]:
    """A client of one that has a certificate for `name`, by a CA of its own."""
    async with secured(folder, name) as url:
        client = Upstream("gpu", url)
        yield client
        await client.close()


async def test_one_of_a_ca_that_nobody_told_of(tmp_path: Path) -> None:
    async with engine(tmp_path, "127.0.0.1") as client:
        with pytest.raises(EngineFault) as told:
            await client.json("/props")
    where = f"127.0.0.1:{client._port}"
    assert told.value.message.startswith(
        f"gpu cannot be reached: the certificate of {where} is of a CA that is not trusted here ("
    )
    assert "SSL_CERT_FILE" in told.value.hint


async def test_one_for_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / certificates.CA))
    async with engine(tmp_path, "gpu.lan") as client:
        with pytest.raises(EngineFault, match=r"is for other names \(.*127\.0\.0\.1"):
            await client.json("/props")


async def test_what_the_hint_says_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / certificates.CA))
    async with engine(tmp_path, "127.0.0.1") as client:
        assert await client.json("/props") == {}


async def test_one_that_speaks_no_tls() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = Upstream("gpu", f"https://127.0.0.1:{port}")
        with pytest.raises(EngineFault) as told:
            await client.json("/props")
        await client.close()
    assert told.value.message == f"gpu cannot be reached: no TLS at 127.0.0.1:{port}"
    assert told.value.hint.endswith(": is it https:// there, and not http://?")
