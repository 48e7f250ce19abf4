"""What may be said of a broker that other machines reach."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.settings import Nats, Share
from schemas.settings.share import parts


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("hub.example.org", ("", "hub.example.org", None)),
        ("10.0.0.5", ("", "10.0.0.5", None)),
        ("10.0.0.5:14222", ("", "10.0.0.5", 14222)),
        ("fd00::1", ("", "fd00::1", None)),
        ("[fd00::1]:4222", ("", "fd00::1", 4222)),
        ("wss://hub.example.org", ("wss", "hub.example.org", None)),
        ("tls://hub:1", ("tls", "hub", 1)),
        ("hub:0", ("", "", None)),
        ("http://hub", ("", "", None)),
        ("me@hub", ("", "", None)),
        ("a b", ("", "", None)),
    ],
)
def test_names(name: str, found: tuple[str, str, int | None]) -> None:
    assert parts(name) == found


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"host": "hub"}, "no address of this machine"),
        ({"names": ["-"]}, "no name or address"),
        ({"names": ["a..b"]}, "no name or address"),
        ({"certificate": "a.pem"}, "go together"),
        ({"ca": "a.pem"}, "own certificate"),
        ({"port": 4222, "websocket_port": 4222}, "a port of its own"),
        ({"websocket_port": 0}, "a port of its own"),
        ({"websocket_tls": False, "names": ["a", "wss://b"]}, "either all names are wss"),
    ],
)
def test_what_is_wrong_is_told(said: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Share.model_validate(said)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"url": "http://h:4222"}, "a url is as"),
        ({"url": "h:4222"}, "a url is as"),
        ({"url": "nats://"}, "a url is as"),
        ({"url": "tls://a:1,wss://b"}, "either all urls"),
        ({"url": "ws://h", "ca": "a.pem"}, "no TLS"),
        ({"user": "a", "seed": "b"}, "one login"),
    ],
)
def test_what_is_wrong_of_a_broker_is_told(said: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Nats.model_validate(said)


@pytest.mark.parametrize(
    ("said", "secure"),
    [
        ({"url": "nats://h:1"}, False),
        ({"url": "ws://h/broker"}, False),
        ({"url": "nats://h:1,tls://i:1"}, True),
        ({"url": "wss://h"}, True),
        ({"url": "nats://h:1", "ca": "a.pem"}, True),
        ({"url": "nats://h:1", "tls_name": "h"}, True),
    ],
)
def test_when_no_connection_without_tls_will_do(said: dict[str, Any], secure: bool) -> None:
    assert Nats.model_validate(said).secure is secure
