"""Workers and providers that fail: the job goes on where it can, and its client is told if not."""

from __future__ import annotations

import asyncio
import signal
import time

from fallback.credits.entries import EntryKind
from tests.acceptance.cloud.cloud_setup import INPUT, SECRET, CloudSetup
from tests.doubles.providers import OpenAI, cut, hang, refuse
from tests.fabric import PATIENCE, ask, counts

MODEL = "gpt-4o-mini"
GRANTED = 1_000_000


async def _open(setup: CloudSetup, *sims: OpenAI, **route: object) -> None:
    names = [f"sim{number}" for number, _ in enumerate(sims)]
    for name, sim in zip(names, sims, strict=True):
        setup.provider(name, sim, silence=1.0)
        setup.price(name, MODEL)
    setup.route("echo", [f"{name}/{MODEL}" for name in names], **{"claim": 0.3, **route})
    await setup.grant(GRANTED)
    await setup.ingress()
    await setup.fallback({"fallback.breaker_failures": 3, "fallback.breaker_open": 2})
    await setup.provided("echo")


async def test_a_worker_killed_before_the_first_token_with_no_other(
    setup: CloudSetup, sim: OpenAI
) -> None:
    await _open(setup, sim, model="echo")
    worker = await setup.fabric.worker("echo://?model=echo&first_ms=60000")
    await setup.fabric.served("echo")
    asked = asyncio.create_task(setup.fabric.stream(ask("#k one two", max_tokens=5)))
    await worker.logged("runner.began")
    await worker.kill()
    assert await asked == (200, "#k one two", True)
    assert len(sim.record.with_text("#k")) == 1
    await setup.fabric.idle()


async def test_a_worker_that_gives_no_first_token_in_time(setup: CloudSetup, sim: OpenAI) -> None:
    await _open(setup, sim, model="echo", first_token=0.5)
    worker = await setup.fabric.worker("echo://?model=echo&first_ms=60000")
    await setup.fabric.served("echo")
    began = time.monotonic()
    assert await setup.fabric.stream(ask("#f one", max_tokens=5)) == (200, "#f one", True)
    assert sim.record.requests[0].at - began >= 0.5
    await worker.logged("runner.ended", outcome="dropped")
    await setup.fabric.idle()


async def test_a_worker_that_fails_three_times(setup: CloudSetup, sim: OpenAI) -> None:
    await _open(setup, sim, model="echo", claim=5)
    await setup.fabric.worker()
    await setup.fabric.served("echo")
    body = ask("#t one", max_tokens=5, echo={"fault": "503"})
    status, answer, headers = await setup.fabric.post(body)
    assert (status, headers["x-headrace-served-by"]) == (200, "provider:sim0"), answer


async def test_the_breaker_opens_and_the_next_provider_serves(
    setup: CloudSetup, sim: OpenAI
) -> None:
    async with OpenAI(key=SECRET) as other:
        await _open(setup, sim, other)
        await sim.down()
        began = time.monotonic()
        for number in range(6):
            status, body, headers = await setup.fabric.post(ask(f"#b{number}", max_tokens=5))
            assert (status, headers["x-headrace-served-by"]) == (200, "provider:sim1"), body
        fallback = setup.fabric.processes[-1]
        [faults] = await counts([fallback], "provider.fault", 3, provider="sim0")
        half_open = (time.monotonic() - began) // 2
        assert 3 <= faults <= 3 + half_open, "the breaker did not open"
        await sim.up()
        async with asyncio.timeout(PATIENCE):  # half-open after each 2 s, then closed
            while not sim.record.requests:
                status, _, _ = await setup.fabric.post(ask("#again", max_tokens=5))
                assert status == 200
        assert len(await setup.charges()) == len(other.record.requests) + len(sim.record.requests)


async def test_trouble_of_one_provider_is_another_providers_job(
    setup: CloudSetup, sim: OpenAI
) -> None:
    async with OpenAI(key=SECRET) as other:
        await _open(setup, sim, other)
        for fault in (refuse(500), refuse(429, retry_after=1), cut(after=0), hang()):
            await asyncio.sleep(0)
            sim.faults.add(fault)
        for number in range(3):
            _, _, headers = await setup.fabric.post(ask(f"#o{number}", max_tokens=5))
            assert headers["x-headrace-served-by"] in ("provider:sim0", "provider:sim1")
        assert len(await setup.charges()) == 3


async def test_retry_after_is_kept_to(setup: CloudSetup, sim: OpenAI) -> None:
    await _open(setup, sim)
    sim.faults.add(refuse(429, retry_after=1))
    status, _, _ = await setup.fabric.post(ask("#r", max_tokens=5))
    first, second = sim.record.requests
    assert status == 200
    assert second.at - first.at >= 1.0


async def test_no_provider_that_works_is_an_honest_error(setup: CloudSetup, sim: OpenAI) -> None:
    await _open(setup, sim)
    sim.faults.add(refuse(500), times=-1)
    status, body, headers = await setup.fabric.post(ask("#x", max_tokens=5))
    assert (status, body["error"]["code"]) == (502, "provider_failed")
    assert headers["x-headrace-error-source"] == "fallback"
    await setup.settled(GRANTED)
    await setup.fabric.idle()


async def test_a_fault_of_the_request_is_the_clients(setup: CloudSetup, sim: OpenAI) -> None:
    await _open(setup, sim)
    sim.faults.add(refuse(400, code="context_length_exceeded"))
    status, body, _ = await setup.fabric.post(ask("#c", max_tokens=5))
    assert (status, body["error"]["code"]) == (400, "context_length_exceeded")
    assert len(sim.record.requests) == 1
    await setup.settled(GRANTED)


async def test_a_stream_that_breaks_off_is_never_spliced(setup: CloudSetup, sim: OpenAI) -> None:
    async with OpenAI(key=SECRET) as other:
        await _open(setup, sim, other)
        sim.pace.token_s = 0.02
        sim.faults.add(cut(after=3))
        words = "#m " + " ".join(f"w{n}" for n in range(20))
        status, text, done = await setup.fabric.stream(ask(words, max_tokens=30))
        assert (status, done) == (200, False)
        assert text.startswith("#m w0")
        assert text.endswith("!stream_interrupted")
        assert not other.record.requests
        [charge] = await setup.charges()
        assert charge.usage is not None
        assert charge.usage.completion == 3


async def test_a_client_that_leaves_pays_for_what_it_got(setup: CloudSetup, sim: OpenAI) -> None:
    await _open(setup, sim)
    sim.pace.token_s = 0.05
    got = asyncio.Event()
    words = "#g " + " ".join(f"w{n}" for n in range(100))
    asked = asyncio.create_task(
        setup.fabric.stream(ask(words, max_tokens=200), on_text=lambda _: got.set())
    )
    await got.wait()
    asked.cancel()
    [gone] = await sim.ended("aborted")
    await setup.written(EntryKind.CHARGE)
    [charge] = await setup.charges()
    assert charge.usage is not None
    assert 0 < charge.usage.completion <= gone.used.output
    await setup.settled(GRANTED - charge.usage.cost)
    await setup.fabric.idle()


async def test_a_new_key_new_prices_and_routes_come_with_a_hangup(setup: CloudSetup) -> None:
    """The old key is refused, which leaves the provider alone for a minute."""
    async with OpenAI(key=f"{SECRET}-new") as sim:
        await _open(setup, sim, max_price=1)
        status, _, _ = await setup.fabric.post(ask("#o one", max_tokens=5))
        assert status != 200
        fallback = setup.fabric.processes[-1]
        (setup.fabric.home / "sim0.key").write_text(f"{SECRET}-new")
        file = setup.fabric.home / f"{fallback.name}.toml"
        text = file.read_text()
        dearer = text.replace(f"input = {INPUT}", "input = 1000").replace("max_price = 1", "")
        file.write_text(dearer + "[worker]\nstall = 20\n")
        fallback.signal(signal.SIGHUP)
        line = await fallback.logged("fallback.reloaded")
        assert (line["applied"], line["restart"]) == (["prices", "route"], ["worker"])
        status, body, headers = await setup.fabric.post(ask("#n one", max_tokens=5))
        assert status == 200, body
        assert float(headers["x-headrace-cost"].split()[0]) > 0.001
        file.write_text(text.replace("[[prices]]", "[[other]]"))
        fallback.signal(signal.SIGHUP)
        await fallback.logged("fallback.not_reloaded")
        assert (await setup.fabric.post(ask("#s one", max_tokens=5)))[0] == 200
