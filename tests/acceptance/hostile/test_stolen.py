"""A stolen login of a worker, which hears nothing of others, but here knows all of their jobs that
can be known: what it says of them through real processes, and what becomes of the answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from schemas import frames, subjects
from schemas.bus import Bus
from schemas.frames import Kind, Op
from schemas.jetstream.words import ACK, NAK, TERM
from tests.acceptance.hostile.bystander import KEYS, unharmed
from tests.fabric import Fabric, ask, read_until

WORDS = " ".join(f"w{number}" for number in range(60))
PACED = "echo://?model=echo&slots=1&token_ms=25"


@pytest_asyncio.fixture
async def thief(fabric: Fabric) -> AsyncIterator[Bus]:
    made = await fabric.connection("worker", "_W.thief.w1")
    yield made
    await made.close()


async def _acks(fabric: Fabric, thief: Bus, words: list[bytes], last: int) -> None:
    """Ack all deliveries that there can be of the first jobs in the stream."""
    consumer = subjects.consumer("echo", subjects.INTERACTIVE)
    for sequence in range(1, last + 1):
        for number in range(1, 4):
            place = f"{number}.{sequence}.{sequence}.1700000000000000000.0"
            for word in words:
                thief.post(f"$JS.ACK.JOBS.{consumer}.{place}", word)
    await thief.flush()


@pytest.mark.parametrize("word", [ACK, TERM, NAK], ids=["ack", "term", "nak"])
async def test_acks_of_jobs_of_others_lose_no_answer(
    fabric: Fabric, thief: Bus, word: bytes
) -> None:
    """One of them runs, which is then lost with its worker, and the others wait."""
    ingress = await fabric.ingress(tables=KEYS)
    first = await fabric.worker(PACED)
    await fabric.served("echo")
    got = asyncio.Event()
    running = asyncio.create_task(fabric.stream(ask(WORDS), on_text=lambda _: got.set()))
    await got.wait()
    texts = [f"number {number}" for number in range(4)]
    asked = [asyncio.create_task(fabric.post(ask(text))) for text in texts]
    await fabric.jobs(1 + len(texts))
    await _acks(fabric, thief, [word], 10)
    second = await fabric.worker(PACED)
    await first.kill()
    assert await running == (200, WORDS, True)
    answers = await asyncio.gather(*asked)
    assert [status for status, _, _ in answers] == [200] * len(texts)
    assert [body["choices"][0]["message"]["content"] for _, body, _ in answers] == texts
    assert ingress.count("worker.lost") == 1
    assert second.inner.returncode is None


async def test_words_about_a_job_of_another_do_not_count(fabric: Fabric, thief: Bus) -> None:
    """Claims, frames, ends and faults in the name of its holder, but for the nonce, of which nobody
    else hears."""
    ingress = await fabric.ingress(tables=KEYS)
    worker = await fabric.worker(PACED)
    await fabric.served("echo")
    got = asyncio.Event()
    running = asyncio.create_task(fabric.stream(ask(WORDS), on_text=lambda _: got.set()))
    await got.wait()
    job = (await worker.logged("runner.began"))["job"]
    seen = await fabric.connection("monitor", "_M.test")
    cards: asyncio.Queue[str] = asyncio.Queue()
    await seen.subscribe(subjects.ALL_CARDS, lambda message: cards.put_nowait(message.subject))
    honest = subjects.carded(await cards.get())[1]
    about = json.loads((await seen.request("$SRV.INFO.headrace-ingress")).data)["metadata"]
    await seen.close()
    ack = f"$JS.ACK.JOBS.{subjects.consumer('echo', 'i')}.9.1.9.1700000000000000000.0"
    for holder, node in (("thief.w1", "thief"), (honest, honest.partition(".")[0])):
        place = subjects.frames(about["ingress"], holder, job)
        for number in range(1, 9):
            claim = ("worker", holder, node, "e", ack, 0, True)
            thief.post(place, frames.pack(Kind.CLAIM, number, 7, 0, claim), f"c.{holder}")
            for kind, body in (
                (Kind.START, (500, "text/plain")),
                (Kind.DATA, b"forged"),
                (Kind.END, (1, 1, 0, 1, 0, 0, 0)),
                (Kind.FAIL, ("engine_failed", "forged", False)),
            ):
                for seq in range(4):
                    thief.post(place, frames.pack(kind, number, 7, seq, body))
    for op in Op:
        thief.post(f"c.{honest}", frames.pack_control(op, job, 7))
    await thief.flush()
    assert await running == (200, WORDS, True)
    assert (await fabric.post(ask("and on")))[0] == 200
    assert [each.inner.returncode for each in (ingress, worker)] == [None, None]


async def test_a_flood_of_cards_keeps_nobody_from_an_answer(fabric: Fabric, thief: Bus) -> None:
    """Of as many processes, and as often, as it likes; of the largest size, too."""
    ingress = await fabric.ingress(tables=KEYS)
    await fabric.worker()
    await fabric.served("echo")
    large = b"{" + bytes(2**20)
    async with unharmed(fabric):
        for number in range(20_000):
            thief.post(f"hb.thief.w{number}", b'{"holder":1}')
            if number % 1000 == 0:
                thief.post("hb.thief.large", large)
                await thief.flush()
    await ingress.logged("watch.flooded", node="thief")
    await read_until(lambda: ingress.lines, [ingress])
    assert ingress.count("watch.flooded") == 1
    assert ingress.count("watch.undecodable_card") <= 2
    assert await fabric.models() == ["echo"]
