"""Every failure of the protocol that needs no model: real broker, real processes, echo engine."""

from __future__ import annotations

import asyncio
import signal
import time

import aiohttp
import pytest

from tests.fabric import KEY, PATIENCE, Fabric, Process, ask, counts, first_to_log
from tests.gate import SHUT
from tests.served import served

HELD = {"echo": {"first_ms": SHUT}}


LATE = {"ingress.silence": 60.0, "jobs.ack_wait": 60.0}
"""Of a dead worker nothing but the end of its connection tells in time."""


async def _two_workers(
    fabric: Fabric, engine: str = "echo://?model=echo", config: dict[str, float] | None = None
) -> list[Process]:
    await fabric.ingress(config)
    workers = list(
        await asyncio.gather(fabric.worker(engine, config), fabric.worker(engine, config))
    )
    await fabric.served("echo")
    return workers


async def test_killed_worker_before_the_first_token_costs_a_blink(fabric: Fabric) -> None:
    workers = await _two_workers(fabric, config=LATE)
    asked = asyncio.create_task(fabric.post(ask("one two three", **HELD)))
    victim = await first_to_log(workers, "runner.began")
    workers[1 - victim].open_gate()
    killed = time.monotonic()
    await workers[victim].kill()
    await workers[1 - victim].logged("runner.began", attempt=2)
    took = time.monotonic() - killed
    status, body, _ = await asked
    assert (status, body["choices"][0]["message"]["content"]) == (200, "one two three")
    assert took < 30, f"the other worker had it after {took:.3f} s"


async def test_frozen_worker_is_replaced_and_its_late_answer_fenced(fabric: Fabric) -> None:
    workers = await _two_workers(fabric)
    asked = asyncio.create_task(fabric.stream(ask("one two three", **HELD)))
    victim = await first_to_log(workers, "runner.began")
    workers[victim].signal(signal.SIGSTOP)
    await workers[1 - victim].logged("runner.began", attempt=2)
    workers[victim].open_gate()
    workers[victim].signal(signal.SIGCONT)
    ended = await workers[victim].logged("runner.ended")
    assert (ended["outcome"] != "ok", ended["verdict"]) == (True, ""), (
        "stale: it would lose the job"
    )
    workers[1 - victim].open_gate()
    assert await asked == (200, "one two three", True)


async def test_an_ingress_that_stood_still_has_its_jobs_done_all_the_same(fabric: Fabric) -> None:
    """The worker gives up a claim that nobody answers, and the message goes with it."""
    ingress = await fabric.ingress()
    worker = await fabric.worker(slots=1)
    await fabric.served("echo")
    first = asyncio.create_task(fabric.post(ask("one", **HELD)))
    await worker.logged("runner.began")
    second = asyncio.create_task(fabric.post(ask("two", echo={"first_ms": 4000})))
    await fabric.jobs(2)
    ingress.signal(signal.SIGSTOP)
    worker.open_gate()
    await worker.logged("runner.ended", outcome="its ingress is gone")
    ingress.signal(signal.SIGCONT)
    for asked, text in ((first, "one"), (second, "two")):
        status, body, _ = await asked
        assert (status, body["choices"][0]["message"]["content"]) == (200, text)
    await fabric.idle()


async def test_worker_lost_after_tokens_is_told_to_the_client(fabric: Fabric) -> None:
    """If no other can go on; `test_takeover` has those that can."""
    workers = await _two_workers(fabric, "echo://?model=echo&resume=0")
    got = asyncio.Event()
    words = " ".join(f"w{i}" for i in range(50))
    asked = asyncio.create_task(
        fabric.stream(ask(words, echo={"token_ms": 30}), on_text=lambda _: got.set())
    )
    victim = await first_to_log(workers, "runner.began")
    await got.wait()
    await workers[victim].kill()
    status, text, done = await asked
    begun, _, code = text.partition("!")
    assert (status, code, done) == (200, "stream_interrupted", False)
    assert words.startswith(begun)
    await fabric.idle()


async def test_an_answer_not_streamed_survives_a_worker_lost_in_the_middle(fabric: Fabric) -> None:
    workers = await _two_workers(fabric)
    words = " ".join(f"w{i}" for i in range(30))
    asked = asyncio.create_task(fabric.post(ask(words, echo={"token_ms": 20})))
    victim = await first_to_log(workers, "runner.began")
    await workers[victim].kill()
    status, body, _ = await asked
    assert (status, body["choices"][0]["message"]["content"]) == (200, words)


@pytest.mark.parametrize("stream", [False, True])
async def test_broker_restart_under_a_running_job(fabric: Fabric, stream: bool) -> None:
    await fabric.ingress()
    worker = await fabric.worker()
    await fabric.served("echo")
    words = " ".join(f"w{i}" for i in range(60))
    body = ask(words, echo={"token_ms": 20})
    asked = asyncio.create_task(fabric.stream(body) if stream else fabric.post(body))
    await worker.logged("runner.began")
    await asyncio.to_thread(fabric.broker.kill)
    await asyncio.to_thread(fabric.broker.restart)
    answer = await asked
    text = answer[1] if stream else answer[1]["choices"][0]["message"]["content"]
    assert (answer[0], text) == (200, words)


async def test_broker_restart_loses_no_waiting_job(fabric: Fabric) -> None:
    await fabric.ingress()
    worker = await fabric.worker("echo://?model=echo&slots=2&token_ms=20")
    await fabric.served("echo")
    asked = [asyncio.create_task(fabric.post(ask(f"request {i} of many"))) for i in range(40)]
    await worker.logged("runner.ended", skip=5)
    await asyncio.to_thread(fabric.broker.kill)
    await asyncio.to_thread(fabric.broker.restart)
    answers = await asyncio.gather(*asked)
    texts = [body["choices"][0]["message"]["content"] for _, body, _ in answers]
    assert texts == [f"request {i} of many" for i in range(40)]
    await fabric.idle()


async def test_broker_restart_while_idle(fabric: Fabric) -> None:
    ingress = await fabric.ingress()
    worker = await fabric.worker()
    await fabric.served("echo")
    await asyncio.to_thread(fabric.broker.restart)
    await ingress.logged("bus.reconnected")
    await worker.logged("bus.reconnected")
    status, body, _ = await fabric.post(ask("still here"))
    assert (status, body["choices"][0]["message"]["content"]) == (200, "still here")


async def test_client_that_leaves_frees_the_slot(fabric: Fabric) -> None:
    await fabric.ingress()
    worker = await fabric.worker("echo://?model=echo&slots=1")
    await fabric.served("echo")
    for stream in (True, False):
        asked = asyncio.create_task(
            fabric.post(ask("never finished", stream=stream, echo={"first_ms": 60_000}))
        )
        await worker.logged("runner.began", skip=0 if stream else 1)
        asked.cancel()
        # cancelled, or gone if the client left before its job's claim was granted
        await worker.logged("runner.ended", verdict="+TERM", skip=0 if stream else 1)
    await fabric.idle()


async def test_client_that_leaves_mid_stream_frees_the_slot(fabric: Fabric) -> None:
    """Also at the worker that goes on where another's stream broke."""
    await fabric.ingress()
    workers = [await fabric.worker("echo://?model=echo&slots=1&token_ms=50") for _ in range(2)]
    await fabric.served("echo")
    said = asyncio.Event()
    long = ask("word " * 1000)
    asked = asyncio.create_task(fabric.stream(long, on_text=lambda _: said.set()))
    await said.wait()
    first = await first_to_log(workers, "runner.began")
    await workers[first].kill()
    await workers[1 - first].logged("runner.began")
    said.clear()
    await said.wait()
    asked.cancel()
    await workers[1 - first].logged("runner.ended", outcome="cancelled", verdict="+TERM")
    await fabric.idle()


async def test_client_that_leaves_while_queued_takes_its_job_along(fabric: Fabric) -> None:
    ingress = await fabric.ingress()
    worker = await fabric.worker("echo://?model=echo&slots=1")
    await fabric.served("echo")
    running = asyncio.create_task(fabric.post(ask("holds the slot", **HELD)))
    await worker.logged("runner.began")
    queued = asyncio.create_task(fabric.post(ask("leaves")))
    await fabric.jobs(2)
    queued.cancel()
    await fabric.jobs(1)
    worker.open_gate()
    assert (await running)[0] == 200
    await ingress.logged("request", status=499)
    assert await counts([worker], "runner.began", 1) == [1]


async def test_killed_ingress_leaves_no_work_behind(fabric: Fabric) -> None:
    ingress = await fabric.ingress()
    worker = await fabric.worker("echo://?model=echo&slots=1")
    await fabric.served("echo")
    asked = [
        asyncio.create_task(fabric.post(ask("for nobody", echo={"first_ms": 60_000})))
        for _ in range(2)
    ]
    await worker.logged("runner.began")
    await fabric.jobs(2)
    await ingress.kill()
    for call in asked:
        with pytest.raises(aiohttp.ClientError):
            await call
    await worker.logged("runner.ended", outcome="its ingress is gone")
    await worker.logged("runner.ended", outcome="its ingress is gone", skip=1)
    await fabric.idle()


async def test_what_a_killed_ingress_had_served_is_counted(fabric: Fabric) -> None:
    ingress = await fabric.ingress()
    await fabric.worker()
    await fabric.served("echo")
    assert (await fabric.post(ask("one two three")))[0] == 200
    await fabric.models()  # an answer that it gives later
    await ingress.kill()
    bus = await fabric.admin()
    rows = await served(bus)
    await bus.close()
    assert [(row.requests, row.prompt, row.completion) for row in rows] == [(1, 3, 3)]


async def test_the_slot_of_a_client_that_left_is_counted(fabric: Fabric) -> None:
    await fabric.ingress()
    worker = await fabric.worker()
    await fabric.served("echo")
    began, url = time.monotonic(), fabric.url + "/v1/chat/completions"
    body = ask("for nobody", stream=True, echo={"token_ms": SHUT})
    async with fabric.session.post(url, json=body, headers=fabric.headers) as answer:
        await answer.content.readline()  # the claim has been granted
        await asyncio.sleep(0.3)  # the time that is counted
    await worker.logged("runner.ended", outcome="cancelled")
    bus = await fabric.admin()
    async with asyncio.timeout(PATIENCE):
        while not (rows := await served(bus)):
            await asyncio.sleep(0.02)
    most = time.monotonic() - began  # the ingress counts until it has heard of the end
    await bus.close()
    [row] = rows
    assert (row.requests, row.failed, row.prompt) == (0, 1, 0)
    assert 0.3 <= row.seconds <= most


async def test_sigterm_lets_a_worker_finish_and_the_other_take_over(fabric: Fabric) -> None:
    workers = await _two_workers(fabric)
    asked = asyncio.create_task(fabric.post(ask("one two", **HELD)))
    first = await first_to_log(workers, "runner.began")
    workers[first].signal(signal.SIGTERM)
    await workers[first].logged("worker.draining")
    after = [await fabric.post(ask(f"later {i}")) for i in range(8)]
    workers[first].open_gate()
    assert [status for status, _, _ in after] == [200] * 8
    assert (await asked)[1]["choices"][0]["message"]["content"] == "one two"
    assert await workers[first].ended() == 0
    await counts([workers[1 - first]], "runner.began", 6)


async def test_a_worker_whose_drain_is_over_hands_its_streams_over(fabric: Fabric) -> None:
    ingress = await fabric.ingress()
    config = {"worker.drain": 0.1}
    workers = list(await asyncio.gather(fabric.worker(config=config), fabric.worker(config=config)))
    await fabric.served("echo")
    got = asyncio.Event()
    words = " ".join(f"w{i}" for i in range(30))
    body = ask(words, echo={"token_ms": 60})
    asked = asyncio.create_task(fabric.stream(body, on_text=lambda _: got.set()))
    holder = workers[await first_to_log(workers, "runner.began")]
    await got.wait()
    holder.signal(signal.SIGTERM)
    assert await asked == (200, words, True)
    assert await holder.ended() == 0
    assert (await ingress.logged("request"))["attempts"] == 2
    await fabric.idle()


async def test_an_ingress_whose_drain_is_over_tells_its_clients(fabric: Fabric) -> None:
    ingress = await fabric.ingress({"ingress.drain": 0.1})
    worker = await fabric.worker()
    await fabric.served("echo")
    got = asyncio.Event()
    words = " ".join(f"w{i}" for i in range(30))
    body = ask(words, echo={"token_ms": 60})
    streamed = asyncio.create_task(fabric.stream(body, on_text=lambda _: got.set()))
    whole = asyncio.create_task(fabric.post(body))
    await worker.logged("runner.began", skip=1)
    await got.wait()
    ingress.signal(signal.SIGTERM)
    status, text, done = await streamed
    begun, _, code = text.partition("!")
    assert (status, code, done, words.startswith(begun)) == (200, "shutting_down", False, True)
    status, answer, headers = await whole
    assert (status, answer["error"]["code"]) == (503, "shutting_down")
    assert headers["retry-after"] == "1"
    assert await ingress.ended() == 0
    await worker.logged("runner.ended", skip=1)
    await fabric.idle()


async def test_a_hangup_reloads_and_ends_nothing(fabric: Fabric) -> None:
    ingress = await fabric.ingress()
    worker = await fabric.worker()
    await fabric.served("echo")
    got = asyncio.Event()
    words = " ".join(f"w{i}" for i in range(20))
    running = asyncio.create_task(
        fabric.stream(ask(words, echo={"token_ms": 30}), on_text=lambda _: got.set())
    )
    await got.wait()
    about = fabric.home / f"{worker.name}.toml"
    about.write_text(about.read_text().replace("slots = 0", "slots = 3"))
    worker.signal(signal.SIGHUP)
    await worker.logged("worker.reloaded", applied=[], restart=["engines"])
    file = fabric.home / f"{ingress.name}.toml"
    text, other = file.read_text(), KEY.replace("0", "9")
    file.write_text(text.replace(KEY, other) + '[[route]]\nname = "also"\nmodel = "echo"\n')
    ingress.signal(signal.SIGHUP)
    await ingress.logged("ingress.reloaded", keys=1, routes=1)
    assert (await fabric.post(ask("x")))[0] == 401
    known = {"Authorization": f"Bearer {other}"}
    assert (await fabric.post({**ask("x"), "model": "also"}, **known))[0] == 200
    file.write_text("nonsense")
    ingress.signal(signal.SIGHUP)
    await ingress.logged("ingress.not_reloaded")
    assert (await fabric.post(ask("x"), **known))[0] == 200
    assert await running == (200, words, True)


async def test_sigterm_lets_an_ingress_finish_its_streams(fabric: Fabric) -> None:
    ingress = await fabric.ingress()
    await fabric.worker()
    await fabric.served("echo")
    got = asyncio.Event()
    words = " ".join(f"w{i}" for i in range(30))
    asked = asyncio.create_task(
        fabric.stream(ask(words, echo={"token_ms": 20}), on_text=lambda _: got.set())
    )
    await got.wait()
    ingress.signal(signal.SIGTERM)
    assert await asked == (200, words, True)
    assert await ingress.ended() == 0


async def test_the_attempts_of_a_job_are_on_different_workers(fabric: Fabric) -> None:
    await fabric.ingress()
    workers = [await fabric.worker("echo://?model=echo&slots=4") for _ in range(3)]
    await fabric.slots("echo", 12)
    status, body, _ = await fabric.post(ask("one", echo={"fault": "503"}))
    assert (status, body["error"]["code"]) == (502, "engine_failed")
    assert await counts(workers, "runner.began", 3) == [1, 1, 1]


async def test_a_job_that_kills_its_workers_ends_as_a_dead_letter(fabric: Fabric) -> None:
    await fabric.ingress()
    for _ in range(4):
        await fabric.worker("echo://?model=echo&slots=1")
    await fabric.served("echo")
    status, body, _ = await fabric.post(ask("poison", echo={"fault": "exit"}))
    assert (status, body["error"]["code"]) == (502, "engine_failed")
    assert "3 attempts" in body["error"]["message"]
    assert (await fabric.post(ask("well")))[0] == 200
    letters = await fabric.dead_letters()
    assert len(letters) == 1
    assert "was lost" in letters[0]["Headrace-Error"]


@pytest.mark.parametrize("fault", ["500", "cut"])
async def test_engine_fault_is_tried_three_times(fabric: Fabric, fault: str) -> None:
    await fabric.ingress()
    worker = await fabric.worker()
    await fabric.served("echo")
    status, body, headers = await fabric.post(ask("fails", echo={"fault": fault}))
    assert (status, body["error"]["code"]) == (502, "engine_failed")
    assert headers["x-headrace-error-source"] == "worker"
    assert await counts([worker], "runner.began", 3) == [3]


async def test_engine_that_hangs_loses_the_job_to_another(fabric: Fabric) -> None:
    await fabric.ingress()
    worker = await fabric.worker(config={"worker.stall": 1.0})
    await fabric.served("echo")
    status, body, _ = await fabric.post(ask("hangs", echo={"fault": "hang", "at": 1}))
    assert (status, body["error"]["code"]) == (502, "engine_failed")
    assert "no progress" in body["error"]["message"]
    await worker.logged("engine.failed")
    await worker.logged("engine.ready", skip=1)


async def test_engine_error_before_the_head_keeps_its_status_when_streamed(fabric: Fabric) -> None:
    await fabric.ingress()
    await fabric.worker()
    await fabric.served("echo")
    status, body, _ = await fabric.stream(ask("refuse me", echo={"fault": "400"}))
    assert status == 400
    assert "as_asked" in body


async def test_keepalive_comments_while_queued_then_the_answer(fabric: Fabric) -> None:
    await fabric.ingress({"ingress.keepalive": 0.2})
    worker = await fabric.worker("echo://?model=echo&slots=1")
    await fabric.served("echo")
    running = asyncio.create_task(fabric.post(ask("holds the slot", **HELD)))
    await worker.logged("runner.began")
    async with fabric.session.post(
        fabric.url + "/v1/chat/completions",
        json=ask("waits", stream=True),
        headers=fabric.headers,
    ) as answer:
        assert answer.status == 200
        # Of its place, if the ingress knows that already.
        while not (line := await answer.content.readline()).startswith((b": keep", b": queued")):
            assert line, "the stream has ended"
        worker.open_gate()
        lines = [line.strip() async for line in answer.content if line.strip()]
    assert lines[-1] == b"data: [DONE]"
    assert (await running)[0] == 200
