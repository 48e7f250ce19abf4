"""A request within the limits of its key, from its permit to the headers of its answer."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from ingress.http.auth import Keys, Principal
from ingress.limits.limiter import Limiter
from ingress.limits.store import Alone
from schemas import alerts, subjects, topology
from schemas.bus import BusError
from schemas.jetstream.alarm import Alarm
from schemas.keys import Limits
from schemas.settings import Key
from tests.unit.ingress.asgi import CHAT, SECRET, Call, FakeBusIngress
from tests.unit.ingress.jobs.recorder import Holder

JSON = "application/json"
REMAINING = "x-ratelimit-remaining-requests"


def bind(ingress: FakeBusIngress, **limits: Any) -> Principal:
    """The one key gets these limits."""
    key = Key.model_validate({"name": "k", "secret": SECRET, "limits": limits})
    ingress.context.keys = Keys([key])
    return Principal("k", key.policy())


async def answered(ingress: FakeBusIngress, **fields: Any) -> Call:
    call = ingress.ask(**fields)
    holder = Holder("w-1", 1)
    ticket = await ingress.held(holder)
    body = orjson.dumps({"object": "chat.completion", "choices": []})
    for frame in (holder.start(0, kind=JSON), holder.data(1, body), holder.end(2)):
        ticket.frame(frame, ticket.times.queued)  # the end says 3 and 4 tokens
    ingress.bus.posts.clear()
    return await call.whole()


async def test_headers_say_what_is_left(ingress: FakeBusIngress) -> None:
    bind(ingress, requests=2, tokens=5000)
    first, second = [await answered(ingress) for _ in range(2)]
    assert [first.headers[REMAINING], second.headers[REMAINING]] == ["1", "0"]
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-limit-tokens"] == "5000"
    assert first.headers["x-ratelimit-remaining-tokens"] == "4993"  # settled: 3 + 4
    assert second.headers["x-ratelimit-remaining-tokens"] == "4986"
    assert first.headers["x-ratelimit-reset-requests"].startswith(("1m0", "59."))


async def test_a_key_without_limits_has_no_such_headers(ingress: FakeBusIngress) -> None:
    call = await answered(ingress)
    assert not [name for name in call.headers if name.startswith("x-ratelimit")]


async def test_beyond_a_limit_there_is_a_429_with_its_name(ingress: FakeBusIngress) -> None:
    bind(ingress, requests=1)
    await answered(ingress)
    call = await ingress.ask().whole()
    assert call.status == 429
    assert call.error["code"] == "rate_limit_exceeded"
    assert "1 requests a minute" in call.error["message"]
    assert call.headers["x-headrace-limit"] == "requests"
    assert call.headers[REMAINING] == "0"
    # Not 61, which clients pass over.
    assert 59 <= int(call.headers["retry-after"]) <= 60
    assert "Try again in 61 s" not in call.error["message"]


async def test_a_client_of_anthropic_gets_its_own_headers(ingress: FakeBusIngress) -> None:
    bind(ingress, requests=1)
    await answered(ingress)
    body = {"model": "echo", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
    headers = {"x-api-key": SECRET, "anthropic-version": "2023-06-01"}
    call = await ingress.call("POST", "/v1/messages", orjson.dumps(body), headers).whole()
    assert call.status == 429
    assert call.error["type"] == "rate_limit_error"
    assert call.headers["anthropic-ratelimit-requests-limit"] == "1"
    assert call.headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert call.headers["anthropic-ratelimit-requests-reset"].endswith("Z")


async def test_places_are_free_once_an_answer_is_over(ingress: FakeBusIngress) -> None:
    bind(ingress, concurrent=1)
    call = ingress.ask()
    await ingress.submitted()
    refused = await ingress.ask().whole()
    assert (refused.status, refused.headers["x-headrace-limit"]) == (429, "concurrent")
    call.leave()
    await call.whole()
    ingress.bus.posts.clear()
    assert (await answered(ingress)).status == 200


async def test_a_stream_holds_its_place_to_its_end(ingress: FakeBusIngress) -> None:
    bind(ingress, concurrent=1)
    call, holder = ingress.ask(stream=True), Holder("w-1", 1)
    ticket = await ingress.held(holder)
    ticket.frame(holder.start(), ticket.times.queued)
    await call.until(lambda call: call.status)
    assert (await ingress.ask().whole()).status == 429
    call.leave()
    await call.whole()
    ingress.bus.posts.clear()
    assert (await answered(ingress)).status == 200


async def test_a_held_job_waits_no_more(ingress: FakeBusIngress) -> None:
    bind(ingress, queued=1)
    first = ingress.ask()
    ticket = await ingress.submitted()
    refused = await ingress.ask().whole()
    assert (refused.status, refused.headers["x-headrace-limit"]) == (429, "queued")
    ticket.frame(Holder("w-1", 1).claim(), ticket.times.queued)
    second = ingress.ask()
    await ingress.bus.until(lambda posts: sum(p.subject.startswith("jobs.") for p in posts) == 2)
    for call in (first, second):
        call.leave()
        await call.whole()


async def test_what_no_engine_worked_on_does_not_count(ingress: FakeBusIngress) -> None:
    bind(ingress, requests=1, tokens=2000)
    ingress.bus.fault = BusError("no")
    assert (await ingress.ask().whole()).status == 503
    ingress.bus.fault = None
    call = await answered(ingress)
    assert call.status == 200
    assert call.headers["x-ratelimit-remaining-tokens"] == "1993"


async def test_a_client_that_leaves_has_had_its_request(ingress: FakeBusIngress) -> None:
    bind(ingress, requests=1)
    call = ingress.ask()
    await ingress.submitted()
    call.leave()
    await call.whole()
    assert (await ingress.ask().whole()).status == 429


async def test_a_month_ends_with_insufficient_quota(ingress: FakeBusIngress) -> None:
    bind(ingress, monthly_tokens=7)
    await answered(ingress)
    call = await ingress.ask().whole()
    assert (call.status, call.error["code"]) == (429, "insufficient_quota")
    assert call.error["type"] == "insufficient_quota"
    assert call.headers["x-headrace-limit"] == "monthly_tokens"
    assert call.headers["x-should-retry"] == "false"
    assert int(call.headers["retry-after"]) <= 31 * 86_400


async def test_the_largest_answer(ingress: FakeBusIngress) -> None:
    bind(ingress, max_tokens=100)
    call = await ingress.ask(max_completion_tokens=101).whole()
    assert (call.status, call.error["param"]) == (400, "max_completion_tokens")
    assert (await ingress.ask(max_tokens=-1).whole()).status == 400
    call = await answered(ingress, max_tokens=100)
    assert "x-headrace-warning" not in call.headers
    call = ingress.ask()
    ticket = await ingress.submitted()
    assert orjson.loads(ticket.body[:])["max_tokens"] == 100
    call.leave()
    await call.whole()


async def test_who_sets_no_limit_is_told_of_the_keys(ingress: FakeBusIngress) -> None:
    bind(ingress, max_tokens=100)
    call = await answered(ingress)
    assert call.headers["x-headrace-warning"] == "max_tokens is 100, the limit of this key"


async def test_limits_of_an_account_hold_for_all_its_keys(ingress: FakeBusIngress) -> None:
    limiter = Limiter(Alone(), "in-1")
    limits = Limits(requests=2)
    principals = [Principal(name, account_limits=limits) for name in "abc"]
    for who in principals[:2]:
        (await limiter.admit(limiter.keepers(who), "m", 1, 1)).leave()
    # Nothing was worked on, so nothing counts.
    (keeper,) = limiter.keepers(principals[2])
    assert keeper.share.remaining("requests", limiter.clock.now())[0] == 2


class Away(Alone):
    """A store that is away now and then."""

    away = False

    async def read(self, subject: str) -> tuple[int, bytes]:
        self._check()
        return await super().read(subject)

    async def write(self, subject: str, after: int, data: bytes) -> int:
        self._check()
        return await super().write(subject, after, data)

    def _check(self) -> None:
        if self.away:
            raise BusError("away")


async def test_without_its_store_nothing_is_admitted_past_what_is_held(
    ingress: FakeBusIngress,
) -> None:
    store = Away()
    ingress.context.limiter = Limiter(store, "in-1")
    bind(ingress, requests=1000)
    await answered(ingress)
    store.away = True
    call = await ingress.ask().whole()
    assert (call.status, call.error["code"]) == (503, "limits_unavailable")
    assert call.headers["retry-after"] == "1"
    store.away = False
    assert (await answered(ingress)).status == 200


async def test_a_record_of_another_release_is_not_overwritten(ingress: FakeBusIngress) -> None:
    store = Alone()
    ingress.context.limiter = Limiter(store, "in-1")
    bind(ingress, requests=1)
    await store.write(subjects.limits("key", "k"), 0, b"\x91\x63")
    call = await ingress.ask().whole()
    assert (call.status, call.error["code"]) == (503, "limits_unavailable")


def test_records_are_kept_for_more_than_a_month() -> None:
    assert topology.limits(1)["max_age"] > 31 * 86_400 * topology.NS


@pytest.mark.parametrize("path", [CHAT])
async def test_a_bad_request_does_not_count(ingress: FakeBusIngress, path: str) -> None:
    bind(ingress, requests=1)
    assert (await ingress.ask(temperature=9).whole()).status == 400
    assert (await answered(ingress)).status == 200


async def test_a_place_in_the_queue_is_waited_for_a_moment(ingress: FakeBusIngress) -> None:
    """A request that finds a free slot leaves the queue at once."""
    bind(ingress, queued=1)
    first = ingress.ask()
    ticket = await ingress.submitted()
    second = ingress.ask()
    await asyncio.sleep(0)  # it asks for its permit
    ticket.frame(Holder("w-1", 1).claim(), ticket.times.queued)
    await ingress.bus.until(lambda posts: sum(p.subject.startswith("jobs.") for p in posts) == 2)
    for call in (first, second):
        call.leave()
        await call.whole()


async def test_a_month_that_runs_out_is_an_alert(ingress: FakeBusIngress) -> None:
    alarm = Alarm(ingress.bus, [80, 100])
    ingress.context.limiter = Limiter(Alone(), "in-1", alarm=alarm)
    bind(ingress, monthly_tokens=8, monthly_credits=5)
    await answered(ingress)  # 7 tokens
    assert (await answered(ingress)).status == 200
    assert (await ingress.ask().whole()).status == 429
    await ingress.context.limiter.close()
    said = [alerts.unpack(put.payload) for put in ingress.bus.puts]
    budgets = [(each.threshold, each.budget.name, each.budget.key) for each in said]
    assert budgets == [(80, "monthly_tokens", "k"), (100, "monthly_tokens", "k")]
    assert said[0].budget.of == 8
    assert re.fullmatch(r"20\d\d-\d\d", said[0].budget.period)


async def test_a_store_that_is_away_is_said_once(ingress: FakeBusIngress) -> None:
    store = Away()
    ingress.context.limiter = Limiter(store, "in-1")
    bind(ingress, requests=1000)
    await answered(ingress)
    store.away = True
    with capture_logs() as logged:
        for _ in range(5):
            assert (await ingress.ask().whole()).status == 503
    assert [line["event"] for line in logged].count("limits.store_away") == 1
