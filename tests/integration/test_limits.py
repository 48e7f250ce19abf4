"""Limits of keys over several ingresses, at a real broker."""

from __future__ import annotations

import asyncio
import shutil
from typing import Any

from tests.fabric import PATIENCE, Fabric, ask, counts, table
from tests.gate import SHUT
from tests.integration.test_keys import served

SECRET = "sk-limited-0123456789abcdef"
HEADERS = {"Authorization": f"Bearer {SECRET}"}
HOUR = 3600.0
REMAINING = "x-ratelimit-remaining-requests"


def key(**limits: Any) -> str:
    """A key with these limits, as a table of the settings."""
    rows = table("[keys]", {"name": "small", "account": "few", "secret": SECRET})
    return rows + table("keys.limits", limits)


async def ingresses(fabric: Fabric, count: int, limited: str, **config: Any) -> list[str]:
    """The addresses of so many ingresses that know the key, and a worker."""
    urls = [(await fabric.ingress(config, tables=limited)).url for _ in range(count)]
    await fabric.worker("echo://?model=echo&slots=8")
    for url in urls:
        await fabric.served("echo", url=url)
    return urls


async def test_three_a_minute_over_three_ingresses(fabric: Fabric) -> None:
    urls = await ingresses(fabric, 3, key(requests=3))
    answers = [await fabric.post(ask("hi"), url, **HEADERS) for url in [*urls, *urls]]
    assert [status for status, _, _ in answers] == [200, 200, 200, 429, 429, 429]
    assert [head[REMAINING] for _, _, head in answers] == ["2", "1", "0", "0", "0", "0"]
    _, refused, head = answers[3]
    assert refused["error"]["code"] == "rate_limit_exceeded"
    assert head["x-headrace-limit"] == "requests"
    assert 50 <= int(head["retry-after"]) <= 61
    assert fabric.tracebacks() == []


async def test_several_choices_are_one_request(fabric: Fabric) -> None:
    urls = await ingresses(fabric, 1, key(requests=2, tokens=100_000))
    status, _, head = await fabric.post(ask("one two", n=3), urls[0], **HEADERS)
    assert (status, head[REMAINING]) == (200, "1")
    # Settled: the words of three answers, and of their prompts.
    assert 99_900 < int(head["x-ratelimit-remaining-tokens"]) < 100_000


async def test_a_step_of_an_ingress_clock_changes_nothing(fabric: Fabric) -> None:
    urls = await ingresses(fabric, 2, key(requests=2))
    first, second = fabric.processes[:2]
    assert (await fabric.post(ask("hi"), urls[0], **HEADERS))[0] == 200
    first.step_clock(HOUR)
    second.step_clock(-HOUR)
    assert (await fabric.post(ask("hi"), urls[1], **HEADERS))[0] == 200
    for url in urls:
        status, _, head = await fabric.post(ask("hi"), url, **HEADERS)
        assert (status, head["x-headrace-limit"]) == (429, "requests")
        assert int(head["retry-after"]) <= 61


async def test_an_ingress_without_the_store_keeps_limits_for_itself(fabric: Fabric) -> None:
    config = {"vault.user": "", "vault.password": ""}
    urls = await ingresses(fabric, 1, key(requests=1), **config)
    assert (await fabric.post(ask("hi"), urls[0], **HEADERS))[0] == 200
    assert (await fabric.post(ask("hi"), urls[0], **HEADERS))[0] == 429
    await fabric.processes[0].logged("limits.alone")


async def test_a_month_counts_what_all_ingresses_served(fabric: Fabric) -> None:
    urls = await ingresses(fabric, 2, key(monthly_tokens=8))
    assert (await fabric.post(ask("one two three four"), urls[0], **HEADERS))[0] == 200
    status, body, _ = await fabric.post(ask("five six"), urls[0], **HEADERS)
    assert (status, body["error"]["code"]) == (429, "insufficient_quota")
    async with asyncio.timeout(PATIENCE):  # the sum is written a quarter of a second later
        while (await fabric.post(ask("seven"), urls[1], **HEADERS))[0] != 429:
            pass


async def test_what_a_stopped_ingress_held_is_free_at_once(fabric: Fabric) -> None:
    urls = await ingresses(fabric, 2, key(concurrent=1))
    assert (await fabric.post(ask("hi"), urls[0], **HEADERS))[0] == 200
    assert await fabric.processes[0].stop() == 0
    assert (await fabric.post(ask("hi"), urls[1], **HEADERS))[0] == 200


async def test_an_account_has_limits_for_all_its_keys(fabric: Fabric) -> None:
    keys, running = await served(fabric, ingresses=2)
    one, other = [await keys.make(name, account="lab") for name in ("one", "other")]
    stranger = await keys.make("stranger", account="elsewhere")
    status, _ = await keys.say("PATCH", "accounts/lab", {"limits": {"requests": 2}})
    assert status == 200
    urls = [process.url for process in running]
    await running[1].logged("keys.changed", skip=3)
    for secret in (one, other, stranger):
        await keys.until("", secret, urls[1])
    used = (await keys.say("GET", "keys/one"))[1]["used"]
    assert used == {  # it has no limits of its own, so nothing is counted for it alone
        "requests": 0, "tokens": 0, "concurrent": 0, "queued": 0,
        "monthly_tokens": 0, "monthly_credits": 0.0,
    }  # fmt: skip
    assert await keys.code(one) == await keys.code(other) == "rate_limit_exceeded"
    assert await keys.code(stranger) == ""


async def test_a_changed_limit_is_in_force_at_once(fabric: Fabric) -> None:
    keys, running = await served(fabric, ingresses=2)
    secret = await keys.make("one", limits={"requests": 1})
    await keys.until("", secret, running[1].url)
    assert await keys.code(secret) == "rate_limit_exceeded"
    assert (await keys.say("GET", "keys/one"))[1]["used"]["requests"] == 1
    assert (await keys.say("PATCH", "keys/one", {"limits": {"requests": 3}}))[0] == 200
    await keys.until("", secret, running[1].url)
    assert await keys.code(secret) == ""
    assert await keys.code(secret) == "rate_limit_exceeded"


async def test_a_repeated_request_counts_once(fabric: Fabric) -> None:
    urls = await ingresses(fabric, 2, key(requests=2))
    again = {**HEADERS, "Idempotency-Key": "one"}
    answers = [await fabric.post(ask("hi"), url, **again) for url in (*urls, *urls)]
    assert [status for status, _, _ in answers] == [200] * 4
    assert answers[0][2][REMAINING] == "1"
    assert REMAINING not in answers[1][2]  # what was left then says nothing now
    assert (await fabric.post(ask("hi"), urls[1], **HEADERS))[2][REMAINING] == "0"


async def test_a_full_queue_gives_back_what_was_taken(fabric: Fabric) -> None:
    config = {"jobs.tenant_depth": 1, "jobs.queue_depth": 1}
    made = await fabric.ingress(config, tables=key(requests=100, concurrent=5))
    worker = await fabric.worker(f"echo://?model=echo&slots=1&first_ms={SHUT}")
    await fabric.served("echo")
    waits = [asyncio.create_task(fabric.post(ask("a b c d e f"), **HEADERS)) for _ in range(3)]
    await made.logged("refused", code="queue_full")
    worker.open_gate()
    answers = await asyncio.gather(*waits)
    served = sum(status == 200 for status, _, _ in answers)
    codes = {body["error"]["code"] for status, body, _ in answers if status != 200}
    assert (codes, 1 <= served < 3) == ({"queue_full"}, True)
    _, _, head = await fabric.post(ask("a"), **HEADERS)
    assert head[REMAINING] == str(100 - served - 1)
    assert await counts([made], "limits.admitted", 4) == [4]
    assert await counts([made], "limits.settled", 4) == [4]


async def test_a_killed_broker_forgets_nothing(fabric: Fabric) -> None:
    urls = await ingresses(fabric, 2, key(requests=3, monthly_tokens=1000))
    answers = [await fabric.post(ask("hi"), url, **HEADERS) for url in urls]
    assert [status for status, _, _ in answers] == [200, 200]
    fabric.broker.kill()
    waiting = [asyncio.create_task(fabric.post(ask("hi"), url, **HEADERS)) for url in urls]
    fabric.broker.restart()
    codes = sorted(status for status, _, _ in await asyncio.gather(*waiting))
    assert codes == [200, 429]
    assert fabric.tracebacks() == []


async def test_a_store_that_was_lost_is_made_anew(fabric: Fabric) -> None:
    urls = await ingresses(fabric, 2, key(requests=100))
    answers = [await fabric.post(ask("hi"), url, **HEADERS) for url in urls]
    fabric.broker.kill()
    shutil.rmtree(fabric.broker.store / "jetstream" / "KEYS" / "streams" / "LIMITS")
    fabric.broker.restart()
    answers += [await fabric.post(ask("hi"), url, **HEADERS) for url in urls]
    assert [status for status, _, _ in answers] == [200] * 4
    # Each knows at least what it has used itself and not written since.
    assert int(answers[-1][2][REMAINING]) < 99
