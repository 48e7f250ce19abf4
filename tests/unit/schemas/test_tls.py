"""A fault of TLS says which certificate, why, and what to do."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from schemas import tls
from schemas.settings import SettingsError


def fault(code: int, message: str = "it is so") -> ssl.SSLCertVerificationError:
    made = ssl.SSLCertVerificationError()
    made.verify_code, made.verify_message = code, message
    return made


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (10, "has expired"),
        (9, "is not yet valid, by this machine's clock: is the clock right?"),
        (62, "is for other names (it is so)"),
        (64, "is for other names"),
        (19, "is of a CA that is not known here"),
        (20, "name the file with that CA's certificate in [nats] ca"),
        (23, "is not good: it is so"),
    ],
)
def test_why(code: int, said: str) -> None:
    text = tls.reason(fault(code), "tls://hub:4222")
    assert text.startswith("the certificate of tls://hub:4222 is") or "has expired" in text
    assert said in text


def test_no_tls_at_all() -> None:
    text = tls.reason(ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER]"), "tls://hub:4222")
    assert "no TLS with tls://hub:4222" in text


def test_whom_to_trust(tmp_path: Path) -> None:
    assert tls.context("").verify_mode == ssl.CERT_REQUIRED
    with pytest.raises(SettingsError, match=r"\[nats\] ca: .*no such file"):
        tls.context(str(tmp_path / "none"))
    empty = tmp_path / "empty"
    empty.write_text("nothing")
    with pytest.raises(SettingsError, match="has no certificate that can be read"):
        tls.context(str(empty))
    with pytest.raises(SettingsError, match="has no certificate that can be read"):
        tls.context(str(tmp_path))
