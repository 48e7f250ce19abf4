"""By which name a page that needs no key may be asked for. Pure.

A web page of a stranger can have its own name lead to an address of this machine (DNS rebinding);
a browser then reads for it what is served there. The request has that name as its ``Host``. An
address is no name: nobody can have it lead elsewhere.
"""

from __future__ import annotations

import ipaddress
import re

_LOCAL = "localhost"
_PORTS = 65_535
_URL = re.compile(
    r"https?://(?:[^/?#\s@]*@)?(?:\[([^\]\s/?#]*)\]|[^/?#@\s:\[\]]+)(?::([0-9]{1,5}))?(?:[/?#]\S*)?"
)
"""An address of HTTP: its IPv6 address, if it has one, and its port."""


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach who listens at `address`."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == _LOCAL


def is_web(url: str) -> bool:
    """Whether it is an address of HTTP that can be asked, with a port that there is."""
    found = _URL.fullmatch(url)
    if found is None:
        return False
    address, port = found.groups()
    try:
        ipaddress.IPv6Address(address.partition("%")[0] if address is not None else "::")
    except ValueError:
        return False
    return port is None or 0 < int(port) <= _PORTS


def is_base(url: str, path: bool = True) -> bool:
    """Whether it is an address of HTTP to which a path can be added: one without a login, a query
    or a fragment. `path`: it may have a part of it already."""
    host, _, more = url.partition("://")[2].partition("/")
    plain = "@" not in host and not {"?", "#"}.intersection(url)
    return is_web(url) and plain and (path or not more)


def is_ours(host: str, *names: str) -> bool:
    """Whether a ``Host`` names this machine: as an address, as localhost, or by one of `names`.
    Browsers always send one; without one it is true."""
    name = host.strip().lower()
    if not name.endswith("]"):
        head, colon, port = name.rpartition(":")
        name = head if colon and port.isdecimal() else name
    name = name.removeprefix("[").removesuffix("]").removesuffix(".")
    if not name or name == _LOCAL or name.endswith(f".{_LOCAL}") or name in names:
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
