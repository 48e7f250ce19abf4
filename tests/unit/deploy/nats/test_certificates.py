"""Certificates are made once, and anew when they end or their names change."""

from __future__ import annotations

import contextlib
import datetime as dt
import ssl
from pathlib import Path

import pytest

from deploy.nats import certificates
from deploy.nats.certificates import CA, CA_KEY, DAY, SERVER, SERVER_KEY
from deploy.nats.errors import StoreUnusable

NAMES = ("localhost", "127.0.0.1", "::1", "hub.example.org")


def handshake(place: Path, host: str) -> None:
    """A whole one within this process. Raises ssl.SSLError."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(place / SERVER, place / SERVER_KEY)
    client = ssl.create_default_context(cafile=place / CA)
    # What Python asks for by itself from 3.13 on.
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(back, there, server_hostname=host)
    theirs = server.wrap_bio(there, back, server_side=True)
    for _ in range(3):
        for side in (ours, theirs):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    assert ours.version() == "TLSv1.3"


def test_made_once(tmp_path: Path) -> None:
    certificates.obtain(tmp_path, NAMES)
    files = {name: (tmp_path / name).read_bytes() for name in (CA, CA_KEY, SERVER, SERVER_KEY)}
    for name in NAMES:
        handshake(tmp_path, name)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(tmp_path, "other.example.org")
    leaf, ca = certificates.read(tmp_path / SERVER)
    assert set(leaf.names) == set(NAMES)
    assert (leaf.of_ca, ca.of_ca) == (False, True)
    assert leaf.left() > 364 * DAY
    assert ca.left() > 3650 * DAY
    certificates.obtain(tmp_path, NAMES[:2])
    assert files == {name: (tmp_path / name).read_bytes() for name in files}
    for name in (CA_KEY, SERVER_KEY):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_anew_for_another_name_by_the_same_ca(tmp_path: Path) -> None:
    certificates.obtain(tmp_path, NAMES)
    ca = (tmp_path / CA).read_bytes()
    certificates.obtain(tmp_path, [*NAMES, "10.0.0.5"])
    handshake(tmp_path, "10.0.0.5")
    assert (tmp_path / CA).read_bytes() == ca


@pytest.mark.parametrize(("left", "anew"), [(59 * DAY, True), (61 * DAY, False)])
def test_anew_before_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: dt.timedelta, anew: bool
) -> None:
    monkeypatch.setattr(certificates, "LIFE", left)
    certificates.obtain(tmp_path, NAMES)
    before = (tmp_path / SERVER).read_bytes()
    monkeypatch.undo()
    certificates.obtain(tmp_path, NAMES)
    assert ((tmp_path / SERVER).read_bytes() != before) is anew


def test_damaged_files_are_told(tmp_path: Path) -> None:
    certificates.obtain(tmp_path, NAMES)
    (tmp_path / CA_KEY).write_text("nothing")
    with pytest.raises(StoreUnusable, match=r"ca\.key is damaged"):
        certificates.obtain(tmp_path, NAMES)
    (tmp_path / CA).write_text("nothing")
    with pytest.raises(StoreUnusable, match=r"ca\.pem holds no certificate"):
        certificates.obtain(tmp_path, NAMES)


def test_a_certificate_as_others_send_it(tmp_path: Path) -> None:
    certificates.obtain(tmp_path, NAMES)
    text = (tmp_path / CA).read_text()
    der = ssl.PEM_cert_to_DER_cert(text)
    assert certificates.pem([der]) == text
    assert certificates.of_der(der) == certificates.read(tmp_path / CA)[0]
