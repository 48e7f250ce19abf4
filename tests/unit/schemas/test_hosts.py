from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import hosts

OURS = [
    *("", "localhost", "LOCALHOST:8080", "localhost.", "app.localhost:1", "127.0.0.1:8080"),
    *("127.0.0.1", "[::1]", "[::1]:8080", "192.168.1.5:80", "me.example", "me.example:443"),
]
FOREIGN = [
    *("evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example"),
    *("127.0.0.1:x", "notlocalhost", "[evil.example]:80", "me.example.evil", "localhost:evil"),
]


@pytest.mark.parametrize("host", OURS)
def test_ours(host: str) -> None:
    assert hosts.is_ours(host, "me.example")


@pytest.mark.parametrize("host", FOREIGN)
def test_a_strangers(host: str) -> None:
    assert not hosts.is_ours(host, "me.example")


@given(st.text())
def test_any_text_is_judged(host: str) -> None:
    assert hosts.is_ours(host) in (True, False)


@pytest.mark.parametrize(
    ("address", "alone"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("", False)],
)
def test_who_can_reach_it(address: str, alone: bool) -> None:
    assert hosts.is_loopback(address) is alone


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("http://h", True),
        ("https://user:word@h.example:8443/base/path?a#b", True),
        ("http://[::1]:8080/v1", True),
        ("http://[fe80::1%25eth0]", True),
        ("http://[::1", False),
        ("http://[nope]:1", False),
        ("http://[]", False),
        ("http://h:99999", False),
        ("http://h:0", False),
        ("http://h:x", False),
        ("http://", False),
        ("ftp://h", False),
        ("h:4318", False),
        ("", False),
    ],
)
def test_which_addresses_of_http_can_be_asked(url: str, good: bool) -> None:
    assert hosts.is_web(url) is good


@pytest.mark.parametrize(
    ("url", "bare", "good"),
    [
        ("http://h:1/", True, True),
        ("http://h/base", False, True),
        ("http://user@h", False, False),
        ("http://h/a@b", False, True),
        ("http://h?a", False, False),
        ("http://h/#a", False, False),
        ("http://[::1", False, False),
    ],
)
def test_to_which_addresses_a_path_can_be_added(url: str, bare: bool, good: bool) -> None:
    """`bare`: also to those that have none."""
    assert hosts.is_base(url) is good
    assert hosts.is_base(url, path=False) is bare
