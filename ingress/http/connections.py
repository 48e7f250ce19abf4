"""Who may have one more connection, and who loses one for it. Pure.

A connection that serves no request is idle: it was just opened, sends its head, or is kept alive.
Where there is no room for a new one, an idle one is closed: that of the address with the most idle
ones which is idle longest.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Iterable
from typing import Protocol

from ingress.http.attempts import network_of
from schemas.errors import TooManyConnections

SHARE = 2
"""One address may have as much as the room divided by this, unless the settings say otherwise."""


class Connection(Protocol):
    def make_room(self) -> None:
        """Close, as another one needs the place."""


Idle = dict["Connection", None]
"""The idle connections of one address, in order: that which is idle longest is first. Those whose
first one is looked for are ordered dicts; one that nobody reads may be plain."""


class Connections:
    """`most`: in all. `of_one`: of one address; 0: half of all. A network of 64 bits is one IPv6
    address. `proxies`: networks of which that does not hold, as all come through them."""

    def __init__(self, most: int, of_one: int = 0, proxies: Iterable[str] = ()) -> None:
        self._most = most
        self._of_one = of_one or max(1, most // SHARE)
        self._proxies = [ipaddress.ip_network(each) for each in proxies]
        self._addresses: dict[str, _Address] = {}
        self._places: dict[Connection, _Address] = {}

    def opened(self, one: Connection, address: str) -> Idle:
        """Give `one` a place, as an idle connection of `address`. It takes itself out of what is
        returned while it has a request, and puts itself back behind that: each request does so,
        and asks nobody. Raises TooManyConnections."""
        network = network_of(address)
        known = self._addresses.get(network)
        if known is None:
            known = _Address(network, self._is_proxy(address))
        if known.count >= self._of_one and not known.is_proxy and not self._closes(known):
            why = f"{known.count} connections came from your address already. Close some."
            raise TooManyConnections(why, retry_after=1)
        if len(self._places) >= self._most and not self._closes(self._fullest()):
            raise TooManyConnections("There are too many connections. Try again.", retry_after=1)
        self._addresses[network] = known
        known.count += 1
        known.idle[one] = None
        self._places[one] = known
        return known.idle

    def closed(self, one: Connection) -> None:
        """Its place is free. It must not call itself idle any more."""
        if (known := self._places.pop(one, None)) is not None:
            known.idle.pop(one, None)
            known.count -= 1
            if not known.count:
                del self._addresses[known.network]

    def _closes(self, known: _Address | None) -> bool:
        """Whether an idle connection of this address was closed."""
        if known is None or not known.idle:
            return False
        idlest = next(iter(known.idle))
        self.closed(idlest)
        idlest.make_room()
        return True

    def _fullest(self) -> _Address | None:
        return max(self._addresses.values(), key=lambda each: len(each.idle), default=None)

    def _is_proxy(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        return any(found in network for network in self._proxies)


class _Address:
    def __init__(self, network: str, is_proxy: bool) -> None:
        self.network = network
        self.is_proxy = is_proxy
        self.count = 0
        self.idle: Idle = OrderedDict()  # a plain dict finds its first one slowly
