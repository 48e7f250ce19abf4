from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.request.addresses import is_address, is_odd, is_public

PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.215.14", "100.63.255.255", "100.128.0.0", "172.15.0.1"]
PUBLIC_6 = ["2606:4700:4700::1111", "2a00:1450:4001:800::200e", "2001:4860:4860::8888"]
PRIVATE = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
]
PRIVATE_6 = [
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:7f00:1::",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "2606:4700::1%1",
    "fec0::1",
    "ff02::1",
]
ODD = [
    "2130706433",
    "017700000001",
    "0x7f000001",
    "0X7F.1",
    "0x7f.0x0.0x0.0x1",
    "0177.0.0.1",
    "127.1",
    "127.0.1",
    "127.0.0.1.",
    "127.0.0.1..",
    "256.256.256.256",
    "1.2.3.4.5",
    "127.0.0.01",
    "0",
    "0x",
    "host.0x7f",
]


def test_public_addresses(subtests: pytest.Subtests) -> None:
    for address in [*PUBLIC, *PUBLIC_6]:
        with subtests.test(f"{address!r:.60}"):
            assert is_public(address)
            assert is_address(address)
            assert not is_odd(address)


def test_all_others(subtests: pytest.Subtests) -> None:
    for address in [*PRIVATE, *PRIVATE_6]:
        with subtests.test(f"{address!r:.60}"):
            assert not is_public(address)
            assert is_address(address)


def test_addresses_in_disguise(subtests: pytest.Subtests) -> None:
    for host in ODD:
        with subtests.test(f"{host!r:.60}"):
            assert is_odd(host)
            assert not is_address(host)
            assert not is_public(host)


NAMES: list[str] = [
    "localhost",
    "example.com",
    "7.example",
    "a0x7f",
    "1e100.net",
    "::1.example",
    "x.",
]


def test_names(subtests: pytest.Subtests) -> None:
    for host in NAMES:
        with subtests.test(f"{host!r:.60}"):
            assert not is_odd(host)
            assert not is_public(host)


@given(st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address))
def test_it_is_never_laxer_than_python_v4(address: ipaddress.IPv4Address) -> None:
    if is_public(str(address)):
        assert address.is_global
        assert not address.is_multicast


@given(st.integers(0, 2**128 - 1).map(ipaddress.IPv6Address))
def test_it_is_never_laxer_than_python_v6(address: ipaddress.IPv6Address) -> None:
    if is_public(str(address)):
        assert address.is_global
        assert not any((address.is_multicast, address.is_site_local, address.is_reserved))
        assert (address.ipv4_mapped, address.sixtofour, address.teredo) == (None, None, None)


@given(st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address), st.sampled_from(["::ffff:", "::"]))
def test_no_ipv4_address_passes_inside_of_an_ipv6_one(
    address: ipaddress.IPv4Address, before: str
) -> None:
    assert not is_public(f"{before}{address}")
