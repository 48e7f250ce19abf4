"""Which requests of a browser may reach the console at all. Pure.

Two kinds of strangers' pages could ask it through a user's browser. One has its own name lead to an
address of this machine (DNS rebinding): its requests have that name as their ``Host``. One is at
another address, another port of this machine included, for which browsers do send our cookie: its
requests that change something, and its WebSockets, have another ``Origin``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from schemas import bounds, hosts

SAFE = ("GET", "HEAD", "OPTIONS")
"""Methods that change nothing."""


def origin_of(public_url: str) -> str:
    """As browsers say it; "" without an address."""
    return public_url.rstrip("/").lower()


class Barred(Exception):
    """A request that is not answered. `status`: of HTTP; the message says what to do."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Guard:
    """`name`: a host by which browsers may call it, beside localhost and addresses; `origin`: as
    they say it there, as ``https://console.example``. "" without one."""

    name: str = ""
    origin: str = ""

    @classmethod
    def of(cls, public_url: str) -> Guard:
        """For a console that browsers call so."""
        return cls(urlsplit(public_url).hostname or "", origin_of(public_url))

    def check(self, headers: Mapping[str, str], *, changes: bool) -> None:
        """`headers`: by lower-case names. `changes`: whether it may change something, as each
        WebSocket may. Raises Barred."""
        host = headers.get("host", "").strip().lower()
        if not host or not hosts.is_ours(host, *([self.name] if self.name else [])):
            raise Barred(
                421,
                f"The console is not here for {bounds.cut(host)!r}, but for localhost and "
                "addresses; another name is to be that of [console] public_url.",
            )
        origin = headers.get("origin", "").strip().lower()
        if origin:
            if origin not in self._origins(host):
                raise Barred(403, "The console answers to its own pages alone.")
        elif changes:  # browsers name the origin of each such request
            raise Barred(403, "This needs the header Origin, as browsers send it.")
        if _is_fetched_by_others(headers):
            raise Barred(403, "The console answers to its own pages alone.")

    def _origins(self, host: str) -> tuple[str, ...]:
        own = (f"http://{host}", f"https://{host}")
        return (*own, self.origin) if self.origin else own


def _is_fetched_by_others(headers: Mapping[str, str]) -> bool:
    """Whether a page elsewhere asks in the background; a link that is followed does not."""
    away = headers.get("sec-fetch-site") in ("cross-site", "same-site")
    return away and headers.get("sec-fetch-mode") != "navigate"
