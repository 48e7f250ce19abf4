"""Limits attempts with wrong keys, by the address that they come from. Pure.

An address that failed too often is told to wait, whatever it sends next, so that it learns nothing
of its guesses. Who came from there with a right key before goes on: others may share the address.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable

from schemas.errors import TooManyAttempts

ADDRESSES = 4096
"""Addresses that are remembered for failed attempts; the oldest are forgotten."""
GUESTS = 16_384
"""Addresses with keys that were right there, as above."""
MINUTE = 60.0


class FailedAttempts:
    """`most`: failed attempts of one address at once; as many come anew in a minute. A network of
    64 bits is one IPv6 address, as one house has that many."""

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._most = most
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Attempts that are left, and when that was."""
        self.guests: OrderedDict[tuple[str, str], None] = OrderedDict()
        """Addresses, each with a key that was right there."""

    def failed(self, address: str) -> None:
        """Raises TooManyAttempts."""
        if not address:  # no socket: a test, or a pipe
            return
        network, now = network_of(address), self._clock()
        left = self._left(network, now)
        if left < 1:
            raise self._refusal(left)
        self._buckets[network] = left - 1, now
        self._buckets.move_to_end(network)
        if len(self._buckets) > ADDRESSES:
            self._buckets.popitem(last=False)

    def give_back(self, address: str) -> None:
        """One that was counted as failed before it was known how it would end."""
        network, now = network_of(address), self._clock()
        left = self._left(network, now) + 1
        if left >= self._most:
            self._buckets.pop(network, None)
        else:
            self._buckets[network] = left, now

    def passed(self, address: str, key: str) -> None:
        """A right key of no guest. Raises TooManyAttempts for an address that is refused: else a
        guesser would be told which guess is right."""
        self.check(address)
        self.guests[address, key] = None
        if len(self.guests) > GUESTS:
            self.guests.popitem(last=False)

    def check(self, address: str) -> None:
        """Raises TooManyAttempts for an address that is refused now, whatever it sends."""
        if self._buckets and address:
            left = self._left(network_of(address), self._clock())
            if left < 1:
                raise self._refusal(left)

    def _left(self, network: str, now: float) -> float:
        left, since = self._buckets.get(network, (float(self._most), now))
        return min(self._most, left + (now - since) * self._most / MINUTE)

    def _refusal(self, left: float) -> TooManyAttempts:
        wait = (1 - left) * MINUTE / self._most
        why = "Too many requests with wrong API keys came from this address. Wait, then try again."
        return TooManyAttempts(why, retry_after=wait)


def network_of(address: str) -> str:
    """What counts as one address: a network of 64 bits, if it is of IPv6."""
    if ":" not in address:
        return address[:64]
    try:
        found = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))
