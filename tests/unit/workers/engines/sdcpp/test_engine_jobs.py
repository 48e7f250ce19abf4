"""How sd-server's jobs go: watched, cancelled where they can be, and waited for where not."""

from __future__ import annotations

import asyncio

import aiohttp
import orjson
import pytest

from tests.doubles.drive import RecordingSink, config, job, opened
from tests.doubles.raw import JSON, Said, raw_server
from tests.doubles.sdserver.server import SdServer
from tests.unit.workers.engines.sdcpp.setup import JOBS, draw, serving
from workers.engines.base import EngineFault
from workers.engines.sdcpp import engine as sdcpp_engine
from workers.engines.sdcpp.engine import GENERATIONS, SdCppEngine


async def test_the_check_draws_one_small_step(server: SdServer, engine: SdCppEngine) -> None:
    await engine.check()

    (small,) = server.drawn
    assert (small.width, small.height, small.steps) == (64, 64, 1)
    assert await engine.probe(), "there is no health page"


async def test_an_engine_that_hangs_fails_the_check(
    server: SdServer, engine: SdCppEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sdcpp_engine, "CHECK_TIMEOUT", 0.05)
    server.may_generate.clear()
    with pytest.raises(EngineFault, match="did not finish a small job") as caught:
        await engine.check()

    assert caught.value.away


async def test_an_engine_that_dies_of_the_check_is_away() -> None:
    async with SdServer(encoder=False) as server, serving(server) as engine:
        with pytest.raises(EngineFault) as caught:
            await engine.check()

    assert caught.value.away


async def test_a_job_is_watched_while_it_is_drawn(server: SdServer, engine: SdCppEngine) -> None:
    server.may_generate.clear()
    sink = RecordingSink()
    body = orjson.dumps({"prompt": "a", "size": "64x64"})
    run = asyncio.create_task(engine.run(job("tiny", GENERATIONS), body, sink))
    await server.sent("/sdcpp/v1/jobs/job_6b033e95_00000000", 3)
    touched, headed = sink.touched, sink.status
    server.may_generate.set()
    end = await run

    assert touched >= 2
    assert headed == 0, "no head before the pictures"
    assert (sink.status, end.completion_tokens) == (200, -1)


async def test_a_job_that_waits_is_cancelled(server: SdServer, engine: SdCppEngine) -> None:
    """Somebody else's job is in its way."""
    server.may_generate.clear()
    async with aiohttp.ClientSession() as session:
        async with session.post(server.url + JOBS, json={"prompt": "other"}) as answer:
            assert answer.status == 202
        await server.seen("started")
        body = orjson.dumps({"prompt": "mine"})
        run = asyncio.create_task(engine.run(job("tiny", GENERATIONS), body, RecordingSink()))
        await server.sent(JOBS, 2)
        run.cancel()
        await server.seen("cancelled")
        await asyncio.wait({run})
    server.may_generate.set()
    await server.seen("finished")

    assert run.cancelled()
    assert [ask.prompt for ask in server.drawn] == ["other"]


@pytest.mark.parametrize("native", [True, False])
async def test_a_job_that_runs_keeps_the_slot_to_its_end(native: bool) -> None:
    """Nothing stops it: the worker must not take another one before."""
    async with SdServer(native=native) as server, serving(server) as engine:
        server.may_generate.clear()
        body = orjson.dumps({"prompt": "mine"})
        run = asyncio.create_task(engine.run(job("tiny", GENERATIONS), body, RecordingSink()))
        await server.seen("started")
        run.cancel()
        for _ in range(3):
            assert await engine.probe(), "its pages are answered meanwhile"
        held = not run.done()
        server.may_generate.set()
        await asyncio.wait({run})
        finished = await server.seen("finished")

    assert held
    assert run.cancelled()
    assert finished == ["mine"]


async def test_a_second_cancel_does_not_wait(server: SdServer, engine: SdCppEngine) -> None:
    server.may_generate.clear()
    body = orjson.dumps({"prompt": "mine"})
    run = asyncio.create_task(engine.run(job("tiny", GENERATIONS), body, RecordingSink()))
    await server.seen("started")
    run.cancel()
    await engine.probe()
    assert not run.done()
    run.cancel()
    await asyncio.wait({run})

    assert run.cancelled()


async def test_a_job_that_never_ends_keeps_its_slot_for_a_time(
    server: SdServer, engine: SdCppEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sdcpp_engine, "OUTLAST", 0.01)
    server.may_generate.clear()
    body = orjson.dumps({"prompt": "mine"})
    run = asyncio.create_task(engine.run(job("tiny", GENERATIONS), body, RecordingSink()))
    await server.seen("started")
    run.cancel()
    await asyncio.wait({run})

    assert run.cancelled()
    assert server.drawn == []


@pytest.mark.parametrize("native", [True, False])
async def test_a_failed_job_is_tried_again(native: bool) -> None:
    async with SdServer(native=native) as server, serving(server) as engine:
        server.fail_after = 1
        with pytest.raises(EngineFault, match="generate_image returned no results") as caught:
            await draw(engine)

    assert caught.value.retryable


@pytest.mark.parametrize(
    ("answer", "said"),
    [(b'{"error":"no luck"}', "e: no luck"), (b'{"data":[]}', "drew nothing")],
)
async def test_what_is_no_picture_is_tried_again(answer: bytes, said: str) -> None:
    async with raw_server({GENERATIONS: Said(answer, JSON)}) as server:
        made = SdCppEngine(config("sdcpp", server.url))
        async with opened(made):
            with pytest.raises(EngineFault, match=said) as caught:
                await draw(made)
    assert (caught.value.retryable, caught.value.away) == (True, False)


async def test_an_order_that_is_answered_with_an_error_is_tried_again() -> None:
    async with raw_server({JOBS: Said(b'{"error":"no luck"}', JSON)}) as server:
        made = SdCppEngine(config("sdcpp", server.url))
        with pytest.raises(EngineFault, match="no luck"):
            await draw(made)
        await made.close()


async def test_a_full_queue_is_tried_again() -> None:
    async with SdServer(queue=0) as server, serving(server) as engine:
        with pytest.raises(EngineFault, match="job queue is full") as caught:
            await draw(engine)

    assert caught.value.retryable
    assert not caught.value.away


async def test_a_restarted_engine_has_forgotten_its_jobs(
    server: SdServer, engine: SdCppEngine
) -> None:
    server.may_generate.clear()
    body = orjson.dumps({"prompt": "mine"})
    run = asyncio.create_task(engine.run(job("tiny", GENERATIONS), body, RecordingSink()))
    await server.seen("started")
    server.jobs.clear()
    with pytest.raises(EngineFault, match="answered 404") as caught:
        await run

    assert caught.value.away


async def test_an_engine_that_is_not_there_is_away(server: SdServer, engine: SdCppEngine) -> None:
    await server.stop()
    with pytest.raises(EngineFault) as caught:
        await draw(engine)
    with pytest.raises(EngineFault):
        await engine.probe()

    assert caught.value.away
