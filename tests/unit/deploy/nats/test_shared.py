"""How a broker that others reach is called, and what is said of its certificate."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from deploy.findings import certificate
from deploy.nats import certificates, shared
from deploy.nats.certificates import DAY, Certificate
from schemas.settings import Share

ADDRESSES = ["10.0.0.5", "192.168.1.5", "172.17.0.1", "10.1.0.1", "10.2.0.1"]


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "machine_addresses", lambda: list(ADDRESSES))


@pytest.mark.parametrize(
    ("said", "addresses"),
    [
        ({"host": "0.0.0.0"}, [f"tls://{each}:4222" for each in ADDRESSES[:4]]),
        ({"host": "10.0.0.9", "port": 14222}, ["tls://10.0.0.9:14222"]),
        ({"host": "fd00::1"}, ["tls://[fd00::1]:4222"]),
        (
            {"host": "0.0.0.0", "names": ["hub", "fd00::1", "hub:1", "wss://hub"], "port": 5000},
            ["tls://hub:5000", "tls://[fd00::1]:5000", "tls://hub:1", "wss://hub"],
        ),
        (
            {"host": "10.0.0.9", "websocket_port": 8443},
            ["tls://10.0.0.9:4222", "wss://10.0.0.9:8443"],
        ),
    ],
)
def test_the_addresses_of_tokens(said: dict[str, Any], addresses: list[str]) -> None:
    assert list(shared._addresses(Share.model_validate(said))) == addresses


def test_what_the_server_is_told(tmp_path: Path) -> None:
    made = shared.prepare(tmp_path, Share(host="0.0.0.0", names=["hub.example.org"]))
    assert made.config["listen"] == "0.0.0.0:4222"
    assert "websocket" not in made.config
    assert (made.url, made.tls_name) == ("tls://127.0.0.1:4222", "")
    leaf, ca = certificates.read(Path(made.config["tls"]["cert_file"]))
    assert {"hub.example.org", "10.0.0.5", "127.0.0.1", "localhost"} <= set(leaf.names)
    assert made.fingerprint == ca.fingerprint.hex()


def test_through_a_proxy_nobody_sees_the_private_ca(tmp_path: Path) -> None:
    share = Share(host="0.0.0.0", names=["wss://hub"], websocket_port=8443, websocket_tls=False)
    made = shared.prepare(tmp_path, share)
    assert made.config["websocket"] == {
        "host": "127.0.0.1", "port": 8443, "same_origin": True, "no_tls": True,
    }  # fmt: skip
    assert (made.fingerprint, made.addresses) == ("", ("wss://hub",))
    assert made.ca


@pytest.mark.parametrize(
    ("left", "said", "level"),
    [
        (-1 * DAY, "ended on", "fail"),
        (1 * DAY, "in 0 days", "warn"),
        (29 * DAY, "in 28 days", "warn"),
        (31 * DAY, "", "ok"),
    ],
)
def test_a_certificate_that_ends_is_told_a_month_before(
    left: dt.timedelta, said: str, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = dt.datetime.now(dt.UTC)
    found = Certificate("CN=a", ("a",), now - 60 * DAY, now + left, b"", of_ca=False)
    assert said in found.fault()
    assert bool(found.fault()) is bool(said)
    finding = certificate(found, "tls://a:4222")
    assert finding.level == level
    assert bool(finding.mend) is bool(said)
    monkeypatch.setattr(certificates, "read", lambda file: [found])
    (told,) = shared.ending(tmp_path, Share(host="0.0.0.0")) or (None,) if said else ("",)
    assert said in (told or "")
    assert not list(shared.ending(tmp_path, Share()))


def test_one_that_has_not_begun_may_be_the_clock() -> None:
    now = dt.datetime.now(dt.UTC)
    found = Certificate("CN=a", ("a",), now + DAY, now + 90 * DAY, b"", of_ca=False)
    assert "is the clock right?" in found.fault()
    assert certificate(found, "tls://a").level == "fail"
    assert certificate(None, "tls://a").level == "warn"
