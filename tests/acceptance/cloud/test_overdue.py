"""Exactly the overdue jobs go out: none before its deadline, none twice, and none that may not."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import aiohttp

from tests.acceptance.cloud.cloud_setup import CloudSetup
from tests.doubles.providers import OpenAI
from tests.fabric import KEY, ask, read_until, session
from tests.gate import SHUT
from tests.integration.test_fair import KEYS, SECRETS

MODEL = "gpt-4o-mini"
LOCAL = "sk-local-0123456789abcdef"
CLAIM = 1.0
KEPT = 20


async def _open(
    setup: CloudSetup, sim: OpenAI, fallbacks: int = 1, tables: str = "", **route: object
) -> None:
    setup.provider("sim", sim, concurrency=256)
    setup.price("sim", MODEL)
    setup.route("echo", [f"sim/{MODEL}"], **{"model": "echo", "claim": CLAIM, **route})
    await setup.grant(100_000_000)
    keys = f'[[keys]]\nname = "l"\naccount = "tests"\nsecret = "{LOCAL}"\nlocal = true\n'
    await setup.ingress({"jobs.queue_depth": 5000}, keys + tables)
    for _ in range(fallbacks):
        await setup.fallback({"fallback.slots": 256})
    await setup.provided("echo")


async def test_hundreds_of_jobs_before_busy_workers(setup: CloudSetup, sim: OpenAI) -> None:
    """Two slots of 20 ms each serve about a hundred a second: the rest is overdue, and goes out,
    but for those that may not: so the worker has its share however slow it is. All are in flight at
    once, and each is timed from when its head was on its connection."""
    await _open(setup, sim, fallbacks=2)
    worker = await setup.fabric.worker("echo://?model=echo&first_ms=20", slots=2)
    await setup.fabric.served("echo")
    asked: dict[str, float] = {}

    async def on_head_sent(_: object, about: Any, __: object) -> None:
        asked[about.trace_request_ctx] = time.monotonic()

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(on_head_sent)
    await setup.fabric.session.close()
    setup.fabric.session = session(trace)

    async def one(number: int) -> str:
        name = f"#j{number}"
        body = ask(f"{name} x", max_tokens=2)
        kept = {"x-headrace-fallback": "never"} if number >= 300 - KEPT else {}
        status, body, headers = await setup.fabric.post(body, note=name, **kept)
        assert status == 200, body
        assert body["choices"][0]["message"]["content"] == f"{name} x"
        by = str(headers["x-headrace-served-by"]).partition(":")[0]
        assert by == "node" or not kept
        return by

    by = Counter(await asyncio.gather(*map(one, range(300))))
    waited = {
        (name := exchange.body["messages"][-1]["content"].split()[0]): exchange.at - asked[name]
        for exchange in sim.record.requests
    }
    assert by["provider"] == len(waited) == len(sim.record.requests), "one went out twice"
    assert by["node"] + by["provider"] == 300
    assert by["node"] > KEPT, "the worker had no chance"
    assert min(waited.values()) >= CLAIM, "a job went out before its deadline"
    assert len(await setup.charges()) == by["provider"]
    await setup.fabric.idle()

    # "late": whole, too, but by then its lease might have been another's.
    def served() -> int:
        return sum(worker.count("runner.ended", outcome=outcome) for outcome in ("ok", "late"))

    await read_until(lambda: served() >= by["node"], [worker])
    assert served() == by["node"]


async def test_strictly_local_means_no_connection(setup: CloudSetup, sim: OpenAI) -> None:
    """A key, a header and a route each keep their jobs here, beside others that go out."""
    setup.route("kept", [f"sim/{MODEL}"], model="echo", claim=0.1, local_only=True)
    await _open(setup, sim, claim=0.1, first_token=3, total=4)

    async def one(number: int) -> tuple[int, Any]:
        body = ask(f"#l{number} x", max_tokens=2)
        headers: dict[str, str] = {}
        if number % 3 == 0:
            headers["Authorization"] = f"Bearer {LOCAL}"
        elif number % 3 == 1:
            headers["x-headrace-fallback"] = "never"
        else:
            body["model"] = "kept"
        status, answer, _ = await setup.fabric.post(body, **headers)
        return status, answer["error"]["code"]

    answers = await asyncio.gather(*map(one, range(30)))
    assert set(answers) == {(503, "no_worker")}
    assert sim.record.connections == 0
    await setup.fabric.idle()


async def test_a_local_job_at_the_head_does_not_block_those_behind_it(
    setup: CloudSetup, sim: OpenAI
) -> None:
    await _open(setup, sim, claim=0.2)
    worker = await setup.fabric.worker(f"echo://?model=echo&first_ms={SHUT}", slots=1)
    await setup.fabric.served("echo")
    busy = asyncio.create_task(setup.fabric.post(ask("#busy x", max_tokens=2)))
    await setup.fabric.jobs(1)
    kept = [
        asyncio.create_task(
            setup.fabric.post(ask(f"#kept{n} x", max_tokens=2), **{"x-headrace-fallback": "never"})
        )
        for n in range(3)
    ]
    await setup.fabric.jobs(4)
    _, _, headers = await setup.fabric.post(ask("#out x", max_tokens=2))
    assert headers["x-headrace-served-by"] == "provider:sim"
    worker.open_gate()
    answers = await asyncio.gather(busy, *kept)
    assert {answer[2]["x-headrace-served-by"].partition(":")[0] for answer in answers} == {"node"}
    assert len(sim.record.requests) == 1


async def test_only_goes_out_at_once_past_a_free_worker(setup: CloudSetup, sim: OpenAI) -> None:
    await _open(setup, sim)
    await setup.fabric.worker()
    await setup.fabric.served("echo")
    body = ask("#only x", max_tokens=2)
    status, _, headers = await setup.fabric.post(body, **{"x-headrace-fallback": "only"})
    assert (status, headers["x-headrace-served-by"]) == (200, "provider:sim")
    status, answer, _ = await setup.fabric.post(body, **{"x-headrace-fallback": "maybe"})
    assert (status, answer["error"]["param"]) == (400, "x-headrace-fallback")
    local = {"Authorization": f"Bearer {LOCAL}", "x-headrace-fallback": "only"}
    status, answer, _ = await setup.fabric.post(body, **local)
    assert (status, answer["error"]["code"]) == (400, "no_provider")
    assert KEY not in str(sim.record.requests[0].headers)


async def test_a_batch_job_goes_out_after_a_deadline_of_its_own(
    setup: CloudSetup, sim: OpenAI
) -> None:
    """The route's own has long passed by then, and the slot is busy all the while."""
    setup.provider("sim", sim, concurrency=256)
    setup.price("sim", MODEL)
    setup.route("echo", [f"sim/{MODEL}"], model="echo", claim=0.2, hedge_after=0.1)
    await setup.grant(100_000_000)
    ingress = await setup.ingress({"routes.batch_claim": 1.5})
    await setup.fallback()
    await setup.provided("echo")
    worker = await setup.fabric.worker(slots=1)
    await setup.fabric.served("echo")
    slow = ask("holds the slot", echo={"first_ms": 60_000}, service_tier="flex")
    running = asyncio.create_task(setup.fabric.post(slow))
    await worker.logged("runner.began")
    asked = time.monotonic()
    body = ask("#b x", max_tokens=2, service_tier="flex")
    status, _, headers = await setup.fabric.post(body)
    took = time.monotonic() - asked
    assert (status, headers["x-headrace-served-by"].partition(":")[0]) == (200, "provider")
    assert took >= 1.5
    assert float(headers["x-headrace-queue-wait"]) >= 1.5
    assert ingress.count("job.promoted") == 1
    assert ingress.count("job.hedged") == 0, "a batch job that runs is not hedged"
    assert len(sim.record.requests) == 1
    running.cancel()


async def test_overdue_jobs_of_several_accounts_go_out_each_by_itself(
    setup: CloudSetup, sim: OpenAI
) -> None:
    """Their messages were exchanged in the queue: what a fallback is given is the job whose time is
    up, and not the one that it sees. One of the slots is held until the first went out."""
    for account in SECRETS:
        await setup.grant(100_000_000, account)
    await _open(setup, sim, tables=KEYS)
    worker = await setup.fabric.worker("echo://?model=echo&first_ms=40", slots=2)
    await setup.fabric.served("echo")
    held = ask("holds a slot", max_tokens=3, echo={"first_ms": SHUT})
    never = {"x-headrace-fallback": "never"}
    holding = asyncio.create_task(setup.fabric.post(held, **never))
    await worker.logged("runner.began")

    async def one(account: str, number: int) -> str:
        text = f"#{account}{number} x"
        key = {"Authorization": f"Bearer {SECRETS[account]}"}
        status, body, headers = await setup.fabric.post(ask(text, max_tokens=2), **key)
        assert status == 200, body
        assert body["choices"][0]["message"]["content"] == text
        return str(headers["x-headrace-served-by"]).partition(":")[0]

    asked = [one("greedy", number) for number in range(120)]
    asked += [one(account, number) for account in ("polite", "heavy") for number in range(20)]
    answers = asyncio.gather(*asked)
    await sim.seen(1)
    worker.open_gate()
    by = Counter(await answers)
    assert (await holding)[0] == 200
    sent = Counter(each.body["messages"][-1]["content"] for each in sim.record.requests)
    # How many each has depends on the machine's pace.
    assert by["node"], "the worker had no chance"
    assert by.total() == 160
    assert max(sent.values()) == 1, "one went out twice"
    charged = [len(await setup.charges(account)) for account in SECRETS]
    assert by["provider"] == len(sent) == sum(charged)
    await setup.fabric.idle()
