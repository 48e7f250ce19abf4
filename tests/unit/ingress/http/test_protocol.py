from __future__ import annotations

from typing import Any

from ingress.http.protocol import JoiningTransport
from tests.unit import fakes


class Transport:
    def __init__(self) -> None:
        self.calls: list[bytes | str] = []

    def write(self, data: bytes) -> None:
        self.calls.append(data)

    def close(self) -> None:
        self.calls.append("close")

    def is_closing(self) -> bool:
        return "close" in self.calls


async def test_what_one_turn_writes_goes_out_at_once() -> None:
    inner: Any = Transport()
    joining = JoiningTransport(inner)
    for piece in (b"a", b"b"):
        joining.write(piece)
    assert inner.calls == []
    await fakes.turns(1)
    joining.write(b"c")
    await fakes.turns(1)
    joining.write(b"d")
    joining.close()
    assert inner.calls == [b"ab", b"c", b"d", "close"]
    assert joining.is_closing()


async def test_what_is_left_for_a_client_that_left_is_dropped() -> None:
    """uvloop raises if a transport that is closed is written to."""
    inner: Any = Transport()
    joining = JoiningTransport(inner)
    joining.write(b"a")
    inner.close()
    await fakes.turns(1)
    assert inner.calls == ["close"]
