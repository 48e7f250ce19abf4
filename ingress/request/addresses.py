"""Which addresses are public, so that the ingress may connect to them for a client.

Source: IANA's registries of special-purpose addresses (RFC 6890 and its updates). They are written
out here, as `ipaddress.is_global` gives different answers in different releases of Python.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network

_NOT_PUBLIC_4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers; Alibaba's metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's own services, though the address is a public one
        "169.254.0.0/16",  # link-local; the metadata of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
    )
)
_PUBLIC_6 = IPv6Network("2000::/3")
"""Global unicast. Outside of it: loopback, mapped and translated IPv4 (::ffff:0:0/96, 64:ff9b::),
unique local, link-local, site-local, multicast."""
_NOT_PUBLIC_6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocols, among them Teredo, which carries an IPv4 address
        "2001:db8::/32",
        "2002::/16",  # 6to4 carries an IPv4 address
        "3fff::/20",
    )
)
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")


def is_public(address: str) -> bool:
    """Whether `address` is a public one. False also if it is not written in its canonical form."""
    try:
        if ":" in address:
            found = IPv6Address(address)
            inside = found in _PUBLIC_6 and found.scope_id is None
            return inside and not any(found in network for network in _NOT_PUBLIC_6)
        return not any(IPv4Address(address) in network for network in _NOT_PUBLIC_4)
    except AddressValueError:
        return False


def is_address(host: str) -> bool:
    """Whether `host` (without brackets) is an address, not a name."""
    try:
        IPv6Address(host) if ":" in host else IPv4Address(host)
    except AddressValueError:
        return False
    return True


def is_odd(host: str) -> bool:
    """Whether `host` is an IPv4 address in an unusual form that resolvers and sockets take, such as
    ``2130706433``, ``0x7f.1`` or ``0177.0.0.1``. (The URL standard's "ends in a number".)"""
    last = host.rstrip(".").rpartition(".")[2]
    return _NUMBER.fullmatch(last) is not None and not is_address(host)
