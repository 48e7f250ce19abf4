"""Files of the broker that are damaged while it is down: what it then lost is noticed and replaced,
and every request that an ingress took is answered."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.nats.broker import Broker
from schemas import subjects
from tests.fabric import Fabric, ask

WORDS = " ".join(f"w{number}" for number in range(60))
WAITING = 12
SLOW = {"echo": {"first_ms": 300}}


def _flip(path: Path, share: float = 0.5) -> None:
    raw = bytearray(path.read_bytes())
    raw[int(len(raw) * share)] ^= 4
    path.write_bytes(raw)


def _block(stream: Path) -> Path:
    """The file with the messages; without its index the broker has to read it."""
    (stream / "msgs/index.db").unlink(missing_ok=True)
    (found,) = stream.glob("msgs/*.blk")
    return found


def flipped_bit(stream: Path) -> None:
    _flip(_block(stream))


def cut_messages(stream: Path) -> None:
    block = _block(stream)
    block.write_bytes(block.read_bytes()[: block.stat().st_size // 3])


def no_messages(stream: Path) -> None:
    _block(stream).write_bytes(b"")


def flipped_bit_in_what_the_stream_is(stream: Path) -> None:
    _flip(stream / "meta.inf")


def flipped_bit_in_what_the_consumer_is(stream: Path) -> None:
    for found in stream.glob("obs/*/meta.inf"):
        _flip(found)


def flipped_bit_in_what_the_consumer_delivered(stream: Path) -> None:
    for found in stream.glob("obs/*/o.dat"):
        _flip(found)


def spoilt_head_of_what_the_consumer_delivered(stream: Path) -> None:
    for found in stream.glob("obs/*/o.dat"):
        _flip(found, share=0)


def empty_files(stream: Path) -> None:
    for found in stream.rglob("*"):
        if found.is_file():
            found.write_bytes(b"")


def no_files(stream: Path) -> None:
    shutil.rmtree(stream)


DAMAGES = [
    flipped_bit,
    cut_messages,
    no_messages,
    flipped_bit_in_what_the_stream_is,
    flipped_bit_in_what_the_consumer_is,
    flipped_bit_in_what_the_consumer_delivered,
    spoilt_head_of_what_the_consumer_delivered,
    empty_files,
    no_files,
]


def restart_with(broker: Broker, stream: str, damage: Callable[[Path], None]) -> None:
    broker.kill()
    (place,) = broker.store.rglob(f"HEADRACE/streams/{stream}")
    damage(place)
    broker.restart()


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_queue_loses_no_request(
    fabric: Fabric, damage: Callable[[Path], None]
) -> None:
    """Some run and the others wait. The stream that runs goes on, too."""
    await fabric.ingress()
    await fabric.worker("echo://?model=echo&slots=4&token_ms=10")
    await fabric.served("echo")
    begun = asyncio.Event()
    stream = asyncio.create_task(fabric.stream(ask(WORDS), on_text=lambda _: begun.set()))
    await begun.wait()
    texts = [f"number {number}" for number in range(WAITING)]
    asked = [asyncio.create_task(fabric.post(ask(text, **SLOW))) for text in texts]
    await fabric.jobs(1 + WAITING)
    await asyncio.to_thread(restart_with, fabric.broker, subjects.JOBS_STREAM, damage)
    answers = await asyncio.gather(*asked)
    assert [status for status, _, _ in answers] == [200] * WAITING
    assert [body["choices"][0]["message"]["content"] for _, body, _ in answers] == texts
    assert await stream == (200, WORDS, True)
    assert (await fabric.post(ask("and on")))[0] == 200
    assert fabric.tracebacks() == []
