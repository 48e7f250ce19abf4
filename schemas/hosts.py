"""By which name a page that needs no key may be asked for. Pure.

A web page of a stranger can have its own name lead to an address of this machine (DNS rebinding);
a browser then reads for it what is served there. The request has that name as its ``Host``. An
address is no name: nobody can have it lead elsewhere.
"""

from __future__ import annotations

import ipaddress

_LOCAL = "localhost"


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach who listens at `address`."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == _LOCAL


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
