"""Kept answers at real processes: found at every ingress, by whom they are for alone, and one run
for all who ask the same meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import aiohttp
import pytest
import pytest_asyncio

from deploy.nats import broker as brokers
from tests.fabric import KEY, PATIENCE, Fabric, Process, ask, fabric

pytestmark = pytest.mark.asyncio(loop_scope="module")

ON = {"X-Headrace-Cache": "on"}
OTHER = "sk-other-0123456789abcdef"
SAME = "sk-same-0123456789abcdefg"
FEW = "sk-few-0123456789abcdefgh"
TABLES = (
    f'[[keys]]\nname = "other"\naccount = "others"\nsecret = "{OTHER}"\n'
    'scopes = ["inference", "usage:read"]\n'
    f'[[keys]]\nname = "same"\naccount = "tests"\nsecret = "{SAME}"\n'
    "limits = { requests = 1000, tokens = 100000 }\n"
    f'[[keys]]\nname = "few"\naccount = "tests"\nsecret = "{FEW}"\nlimits = {{ concurrent = 1 }}\n'
)
WORDS = " ".join(f"w{number}" for number in range(40))


class Two(NamedTuple):
    fabric: Fabric
    here: Process
    there: Process
    worker: Process

    async def ask(
        self, body: Mapping[str, Any], url: str = "", key: str = KEY, **headers: str
    ) -> tuple[str, int, bytes, Mapping[str, str]]:
        """(what came of it, status, body, headers) of a chat."""
        path = f"{url or self.here.url}/v1/chat/completions"
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        known = {"Authorization": f"Bearer {key}", **ON, **more}
        async with self.fabric.session.post(path, json=body, headers=known) as answer:
            found = answer.headers.get("x-headrace-cache", "")
            return found, answer.status, await answer.read(), answer.headers

    async def results(self, body: Mapping[str, Any], *urls: str, **more: str) -> list[str]:
        return [(await self.ask(body, url, **more))[0] for url in urls or ("",)]

    async def rows(self, key: str) -> dict[str, Any]:
        """The requests of a key that ended, by their ids."""
        url, known = f"{self.here.url}/v1/requests", {"Authorization": f"Bearer {key}"}
        async with self.fabric.session.get(url, headers=known) as answer:
            return {row["request"]: row for row in (await answer.json())["data"]}

    async def began(self) -> int:
        await self.worker.caught_up()
        return self.worker.count("runner.began")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def two(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Two]:
    """Two ingresses before one worker."""
    home = tmp_path_factory.mktemp("fabric")
    with brokers.start(home / "broker", 0, 0) as broker:
        async with fabric(broker, home) as made:
            here, there, worker = await asyncio.gather(
                made.ingress(tables=TABLES),
                made.ingress(tables=TABLES),
                made.worker("echo://?model=echo&digest=a&slots=8", {"worker.node": "one"}),
            )
            for ingress in (here, there):
                await made.served("echo", url=ingress.url)
            yield Two(made, here, there, worker)


async def arrived(two: Two, body: Mapping[str, Any]) -> None:
    """Wait until the other ingress finds the answer, which is in the broker then."""
    async with asyncio.timeout(PATIENCE):
        while await two.results(body, two.there.url, cache_control="only-if-cached") != ["hit"]:
            await asyncio.sleep(0.05)


def still(text: str, **fields: Any) -> dict[str, Any]:
    return ask(text, temperature=0, **fields)


async def test_an_answer_is_found_where_it_was_made_and_at_every_other_ingress(two: Two) -> None:
    body = still("everywhere")
    first = await two.ask(body)
    assert (first[0], first[1]) == ("miss", 200)
    assert (await two.ask(body))[:3] == ("hit", 200, first[2])
    await arrived(two, body)
    there = await two.ask(body, two.there.url)
    assert there[:3] == ("hit", 200, first[2])
    assert int(there[3]["age"]) >= 0
    assert there[3]["x-headrace-served-by"] == "cache"


async def test_a_hit_is_among_the_requests_that_ended(two: Two) -> None:
    body = still("listed")
    assert await two.results(body, key=OTHER) == ["miss"]
    *_, headers = await two.ask(body, key=OTHER)
    rows = await two.rows(OTHER)
    row = rows[headers["x-request-id"]]
    assert (row["state"], row["cache"], row["served_by"]) == ("ended", "hit", "cache")
    assert (row["account"], row["key"], row["attempts"], row["lane"]) == (
        *("others", "other"),
        *(0, "interactive"),
    )
    assert [event["event"] for event in row["timeline"]] == ["queued", "ended"]
    assert [other.get("cache") for other in rows.values()].count("hit") == 1


async def test_a_stream_is_a_stream_again_event_by_event(two: Two) -> None:
    body = still(WORDS, stream=True, stream_options={"include_usage": True})
    first, before = await two.ask(body), await two.began()
    again = await two.ask(body)
    assert again[0] == "hit"
    assert again[2] == without_comments(first[2])
    assert again[3]["content-type"] == first[3]["content-type"]
    assert again[2].endswith(b"data: [DONE]\n\n")
    assert b'"usage":{' in again[2]
    assert await two.began() == before


def without_comments(stream: bytes) -> bytes:
    events = stream.split(b"\n\n")
    return b"\n\n".join(event for event in events if not event.startswith(b":"))


async def test_accounts_do_not_share_and_keys_of_one_do(two: Two) -> None:
    body = still("accounts")
    assert await two.results(body) == ["miss"]
    assert await two.results(body, key=OTHER) == ["miss"]
    assert await two.results(body, key=SAME) == ["hit"]
    assert await two.results(body, key=OTHER) == ["hit"]


async def test_who_names_a_node_has_answers_of_his_own(two: Two) -> None:
    body = still("nodes")
    assert await two.results(body) == ["miss"]
    assert await two.results(body, x_headrace_node="one") == ["miss"]
    assert await two.results(body, x_headrace_node="one") == ["hit"]
    assert await two.results(body, key=OTHER, x_headrace_node="one") == ["miss"]
    *_, headers = await two.ask(body, key=OTHER, x_headrace_node="one")
    assert headers["x-headrace-cache"] == "hit"
    assert (await two.rows(OTHER))[headers["x-request-id"]]["lane"] == "pinned"


async def test_a_hit_counts_as_a_request_and_has_no_tokens(two: Two) -> None:
    body = still("limits one two three", max_tokens=50)
    results, requests, tokens = list[str](), list[int](), list[int]()
    for _ in range(3):
        result, _, _, headers = await two.ask(body, key=SAME)
        results.append(result)
        requests.append(int(headers["x-ratelimit-remaining-requests"]))
        tokens.append(int(headers["x-ratelimit-remaining-tokens"]))
    assert results == ["miss", "hit", "hit"]
    assert [requests[0] - left for left in requests] == [0, 1, 2]
    assert tokens[1] == tokens[2]


async def test_no_store_leaves_nothing_behind(two: Two) -> None:
    body = still("no store")
    assert await two.results(body, cache_control="no-store") == ["bypass"]
    assert await two.results(body, "", cache_control="only-if-cached") == [""]
    assert await two.results(body) == ["miss"]


async def test_an_idempotency_key_and_a_kept_answer_go_together(two: Two) -> None:
    body = still("both", stream=True)
    found = [await two.ask(body, Idempotency_Key=key) for key in ("k1", "k2", "k2")]
    assert [each[0] for each in found] == ["miss", "hit", "hit"]
    assert [each[3].get("idempotent-replayed") for each in found] == [None, None, "true"]
    assert found[0][2] == found[1][2] == found[2][2]


# One run for all who ask the same.


async def test_the_first_may_leave_and_the_others_get_all(two: Two) -> None:
    body = still(WORDS, stream=True, echo={"token_ms": 20, "as": "leaver"})
    before, post = await two.began(), two.fabric.session.post
    headers = {**two.fabric.headers, **ON}
    path = f"{two.here.url}/v1/chat/completions"
    async with post(path, json=body, headers=headers) as first:
        await first.content.readline()
        others = [asyncio.create_task(two.ask(body)) for _ in range(2)]
        async with post(path, json=body, headers=headers) as joined:
            await joined.content.readline()
    found = await asyncio.gather(*others)
    assert [each[:2] for each in found] == [("hit", 200)] * 2
    assert found[0][2] == found[1][2]
    assert b"w39" in found[0][2]
    assert await two.began() == before + 1


async def test_who_shares_a_stream_has_a_place_as_long_as_it_lasts(two: Two) -> None:
    body, post = still(WORDS, stream=True, echo={"token_ms": 500}), two.fabric.session.post
    path = f"{two.here.url}/v1/chat/completions"
    first, other = ({"Authorization": f"Bearer {key}", **ON} for key in (KEY, FEW))
    async with post(path, json=body, headers=first) as leads:
        await leads.content.readline()
        async with post(path, json=body, headers=other) as shares:
            assert shares.headers["x-headrace-cache"] == "hit"
            await shares.content.readline()
            assert (await two.ask(still("beside"), key=FEW))[1] == 429
    async with asyncio.timeout(PATIENCE):
        while (await two.ask(still("behind"), key=FEW))[1] != 200:
            await asyncio.sleep(0.05)


async def test_it_ends_when_the_last_one_leaves(two: Two) -> None:
    body = still(WORDS, stream=True, echo={"token_ms": 1000, "as": "all leave"})
    ended = two.worker.count("runner.ended", outcome="cancelled")
    headers = {**two.fabric.headers, **ON}
    path = f"{two.here.url}/v1/chat/completions"
    async with aiohttp.ClientSession() as session, AsyncExitStack() as clients:
        for _ in range(2):
            client = session.post(path, json=body, headers=headers)
            answer = await clients.enter_async_context(client)
            await answer.content.readline()
    await two.worker.logged("runner.ended", skip=ended, outcome="cancelled")
    await two.fabric.idle()


async def test_where_accounts_share_answers_each_has_a_run_of_its_own(two: Two) -> None:
    """Its first client may be told to pay, or end it: that is nothing to others."""
    ingress = await two.fabric.ingress({"cache.shared": True}, tables=TABLES)
    await two.fabric.served("echo", url=ingress.url)
    body, before = still("of both", echo={"first_ms": 400}), await two.began()
    asked = [asyncio.create_task(two.ask(body, ingress.url, key)) for key in (KEY, OTHER)]
    await two.worker.logged("runner.began", skip=before + 1)
    assert [(await each)[:2] for each in asked] == [("miss", 200), ("miss", 200)]
    assert await two.results(body, ingress.url) == ["hit"]
    assert await two.results(body, ingress.url, key=OTHER) == ["hit"]
    assert await ingress.stop() == 0


async def test_usage_has_them_apart(two: Two) -> None:
    body, path = still("usage"), f"{two.here.url}/v1/usage?by=model,node&since=1h"
    await two.results(body, key=OTHER)
    await two.results(body, key=OTHER)
    headers = {"Authorization": f"Bearer {OTHER}"}
    async with asyncio.timeout(PATIENCE):
        while True:
            async with two.fabric.session.get(path, headers=headers) as answer:
                rows = {row["node"]: row for row in (await answer.json())["data"]}
            if "" in rows:
                break
            await asyncio.sleep(0.05)
    assert rows[""]["hits"] == rows[""]["requests"] >= 1
    assert (rows[""]["prompt"], rows[""]["slot_seconds"]) == (0, 0)
    assert rows["one"]["hits"] == 0


# What becomes of it later.


async def test_an_ingress_that_starts_anew_finds_what_others_kept(two: Two) -> None:
    body = still("restart")
    first = await two.ask(body)
    await arrived(two, body)
    anew = await two.fabric.ingress(tables=TABLES)
    await two.fabric.served("echo", url=anew.url)
    assert (await two.ask(body, anew.url))[:3] == ("hit", 200, first[2])
    assert await anew.stop() == 0


async def test_its_time_is_up_in_memory_and_in_the_broker(two: Two) -> None:
    body = still("old")
    await two.results(body)
    two.here.step_clock(3601)
    try:
        assert await two.results(body) == ["miss"]
    finally:
        two.here.step_clock(0)


async def test_other_weights_behind_the_name_miss(two: Two) -> None:
    body = still("weights")
    assert await two.results(body) == ["miss"]
    await arrived(two, body)
    assert await two.worker.stop() == 0
    await two.fabric.worker("echo://?model=echo&digest=b")
    await two.fabric.slots("echo", 4)
    assert await two.results(body) == ["miss"]
    assert await two.results(body) == ["hit"]
