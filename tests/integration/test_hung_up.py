"""A connection that the broker closes is opened again, whatever it was closed for, and what was
subscribed is heard again."""

from __future__ import annotations

import asyncio

import pytest

from schemas.bus import Bus, Message
from tests.fabric import PATIENCE, Fabric

BAD = {
    "a line that is too long": b"PUB c.%b 0\r\n\r\n" % (b"h" * 5000),
    "a message that is too long": b"PUB c.x 3000000\r\n",
    "a head that is too long": b"HPUB c.x 2900000 3000000\r\n",
    "no word of the protocol": b"SSH-2.0\r\n",
    "a subject that is none": b"PUB c..x 0\r\n\r\n",
    "a size that is none": b"PUB c.x -5\r\n",
}


@pytest.mark.parametrize("what", BAD)
async def test_it_is_opened_again(fabric: Fabric, what: str) -> None:
    bus = await fabric.admin()
    heard: asyncio.Queue[Message] = asyncio.Queue()
    back = asyncio.Event()
    bus.on_reconnect(back.set)
    await bus.subscribe("c.x", heard.put_nowait)
    await bus.flush()
    for _ in range(3):
        back.clear()
        _write(bus, BAD[what])
        if what != "a subject that is none":  # which the broker passes over, unless it is pedantic
            async with asyncio.timeout(PATIENCE):
                await back.wait()
        bus.post("c.x", b"again")
        await bus.flush()
        async with asyncio.timeout(PATIENCE):
            assert (await heard.get()).data == b"again"
    assert not bus.closed.is_set()
    await bus.close()


def _write(bus: Bus, raw: bytes) -> None:
    """Past all checks of the bus."""
    transport = bus._nats._transport
    assert transport is not None
    transport.write(raw)
