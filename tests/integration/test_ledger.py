"""The credits on a real broker: many hands on one account, kills, restarts, repetitions."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from deploy.nats.broker import Broker
from fallback.credits import journal
from fallback.credits.entries import Balance, EntryKind, Reservation
from fallback.credits.faults import Insufficient
from fallback.credits.ledger import Ledger
from schemas import bus as buses
from schemas import subjects, topology
from schemas.bus import ApiError, Bus, BusError
from schemas.jetstream import streams
from schemas.settings import Jobs, Nats
from tests import forks
from tests.unit.fallback.credits.counter_stream import purchase

ACCOUNT = "acme"
PATIENCE = 60.0
Open = Callable[..., Awaitable[Ledger]]


def login(broker: Broker) -> Nats:
    user, password = broker.users["ledger"]
    return Nats(url=broker.url, user=user, password=SecretStr(password))


@pytest.fixture
async def bus(broker: Broker) -> AsyncIterator[Bus]:
    made = await buses.connect(login(broker), "test", "_L.test")
    yield made
    await made.close()


@pytest.fixture
async def opened(broker: Broker) -> AsyncIterator[Open]:
    """Opens ledgers, each with a connection of its own, and closes them."""
    made: list[tuple[Bus, Ledger]] = []

    async def open_one(alive: Callable[[str], bool] = lambda holder: True) -> Ledger:
        bus = await buses.connect(login(broker), "test", f"_L.{len(made)}")
        ledger = Ledger(bus, alive=alive)
        made.append((bus, ledger))
        await ledger.open()
        return ledger

    yield open_one
    for bus, ledger in made:
        await ledger.close()
        await bus.close()


def job(number: int, amount: int = 10, holder: str = "h", turn: int = 1) -> Reservation:
    return Reservation(ACCOUNT, f"job-{number}", turn, holder, amount, first=turn == 1)


async def charges(ledger: Ledger) -> list[int]:
    found = [entry async for entry in ledger.history(ACCOUNT)]
    return [entry.usage.cost for entry in found if entry.kind is EntryKind.CHARGE and entry.usage]


async def test_eight_hands_and_money_for_600_of_1000(opened: Open) -> None:
    hands = [await opened() for _ in range(8)]
    await hands[0].grant(ACCOUNT, 6000)

    async def work(at: int) -> int:
        served = 0
        for number in range(at, 1000, len(hands)):
            try:
                held = await hands[at].reserve(job(number, holder=f"h{at}"))
            except Insufficient:
                continue
            served += await hands[at].settle(held, purchase(f"job-{number}", cost=10))
        return served

    async with asyncio.timeout(PATIENCE):
        assert sum(await asyncio.gather(*(work(at) for at in range(8)))) == 600
    assert await hands[1].balance(ACCOUNT) == Balance(0, 0)
    assert await charges(hands[2]) == [10] * 600
    entries = [entry async for entry in hands[3].history(ACCOUNT)]
    assert [entry.balance for entry in entries if entry.kind is not EntryKind.RESERVE][-1] == 0


HOLDER = """
import asyncio, json, sys
import structlog
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
from pydantic import SecretStr
from fallback.credits.entries import Reservation
from fallback.credits.ledger import Ledger
from schemas import bus as buses
from schemas.settings import Nats
async def main():
    url, user, password = sys.argv[1:]
    bus = await buses.connect(Nats(url=url, user=user, password=SecretStr(password)), "t", "_L.p")
    ledger = Ledger(bus)
    await ledger.open()
    held = await ledger.reserve(Reservation("acme", "killed", 1, "victim", 70))
    print(json.dumps({"seq": held.seq}), flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_what_a_killed_process_held_comes_back(broker: Broker, opened: Open) -> None:
    dead: set[str] = set()
    ledger = await opened(lambda holder: holder not in dead)
    await ledger.grant(ACCOUNT, 100)
    victim = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, broker.url, *broker.users["ledger"],
        stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert victim.stdout is not None
    async with asyncio.timeout(PATIENCE):
        assert json.loads(await victim.stdout.readline())["seq"] == 2
    assert await ledger.sweep() == 0, "it lives"
    assert await ledger.balance(ACCOUNT) == Balance(30, 70)

    victim.kill()
    await victim.wait()
    dead.add("victim")
    assert await ledger.sweep() == 1
    assert await ledger.sweep() == 0
    assert await ledger.balance(ACCOUNT) == Balance(100, 0)


async def test_a_restart_of_the_broker_keeps_everything(broker: Broker, opened: Open) -> None:
    one, two = await opened(), await opened()
    await one.grant(ACCOUNT, 100)
    settled = await one.reserve(job(1))
    assert await one.settle(settled, purchase("job-1", cost=4))
    open_still = await one.reserve(job(2))

    await asyncio.to_thread(broker.kill)
    waiting = asyncio.create_task(one.settle(open_still, purchase("job-2", cost=7)))
    await asyncio.to_thread(broker.restart)

    async with asyncio.timeout(PATIENCE):
        assert await waiting
        assert await one.settle(settled, purchase("job-1", cost=4)), "its own charge, said again"
    assert await two.balance(ACCOUNT) == Balance(89, 0)
    assert await charges(two) == [4, 7]


async def test_a_job_is_charged_once_whoever_holds_it(opened: Open) -> None:
    one, two = await opened(), await opened()
    await one.grant(ACCOUNT, 15)
    first = await one.reserve(job(1, holder="a"))
    second = await two.reserve(job(1, holder="b", turn=2))
    assert not second.paid
    assert not await one.settle(first, purchase("job-1", cost=5)), "the later holder has it"
    assert await two.settle(second, purchase("job-1", cost=6))

    third = await one.reserve(job(1, amount=10**6, holder="a", turn=3))
    assert third.paid, "there is nothing to pay for any more, and nothing is asked for"
    assert not await one.settle(third, purchase("job-1", cost=5))
    assert await two.balance(ACCOUNT) == Balance(9, 0)


async def test_what_lies_before_the_window_is_found(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await opened()
    await one.grant(ACCOUNT, 100)
    await one.reserve(job(1, amount=30, holder="lost"))
    paid = await one.reserve(job(2, amount=30))
    await one.settle(paid, purchase("job-2", cost=20))
    monkeypatch.setattr(journal, "WINDOW", 0)

    late = await opened(lambda holder: holder != "lost")
    assert await late.balances() == {ACCOUNT: Balance(50, 30)}
    assert await late.sweep() == 1
    again = Reservation(ACCOUNT, "job-2", 2, "late", 10, first=False, arrived=1)
    assert (await late.reserve(again)).paid, "what is older than the window is looked up"
    assert await late.balances() == {ACCOUNT: Balance(80, 0)}


async def test_usage_of_all_accounts_is_read_in_order(opened: Open) -> None:
    ledger = await opened()
    for number, account in enumerate(["a", "b", "a"]):
        await ledger.grant(account, 10)
        held = await ledger.reserve(Reservation(account, f"{number}", 1, "h", 10))
        await ledger.settle(held, purchase(f"{number}", account, prompt=number, cost=number))
    found = [(each.account, each.cost, each.prompt) async for each in ledger.purchases()]
    assert found == [("a", 0, 0), ("b", 1, 1), ("a", 2, 2)]
    assert [each.job async for each in ledger.purchases(account="b")] == ["1"]
    newest = [(e.kind, e.balance) async for e in ledger.history("a", limit=2)]
    assert newest == [(EntryKind.RESERVE, 10), (EntryKind.CHARGE, 18)]


async def test_the_journal_takes_nothing_but_entries(opened: Open, bus: Bus) -> None:
    ledger = await opened()
    await ledger.grant(ACCOUNT, 5)
    subject = subjects.credits(ACCOUNT)
    with pytest.raises(ApiError, match="increment is missing"):
        await bus.store(subject, {"Nats-Msg-Id": "x"})
    with pytest.raises(ApiError, match="has payload"):
        await bus.store(subject, {"Nats-Incr": "+1"}, b"more")
    with pytest.raises(ApiError, match="not permitted"):
        await bus.api("STREAM.PURGE.CREDITS")
    with pytest.raises(ApiError, match="not permitted"):
        await bus.api("STREAM.MSG.DELETE.CREDITS", {"seq": 1})
    assert await ledger.balance(ACCOUNT) == Balance(5, 0)


async def test_without_the_stream_an_entry_is_a_fault_of_the_bus(bus: Bus) -> None:
    with pytest.raises(BusError, match="no stream takes it"):
        await bus.store(subjects.credits(ACCOUNT), {"Nats-Incr": "+1"})


async def test_jobs_are_no_counters(bus: Bus) -> None:
    await streams.ensure(bus, topology.streams(Jobs(), 1))
    with pytest.raises(ApiError, match="counters is disabled"):
        await bus.store("jobs.a.i", {"Nats-Incr": "+1"})


async def test_a_grant_counts_once_and_takes_back_what_is_there(opened: Open) -> None:
    ledger = await opened()
    assert await ledger.grant(ACCOUNT, 100, "first", id="g") == 100
    assert await ledger.grant(ACCOUNT, 100, "again", id="g") == 100
    assert await ledger.grant(ACCOUNT, -40, "a mistake") == 60
    with pytest.raises(Insufficient):
        await ledger.grant(ACCOUNT, -61)
    assert [e.note async for e in ledger.history(ACCOUNT)] == ["first", "a mistake"]


async def headrace(broker: Broker, *args: str, role: str = "ledger") -> tuple[int, str, str]:
    user, password = broker.users[role]
    url = broker.url.replace("nats://", f"nats://{user}:{password}@")
    async with asyncio.timeout(PATIENCE):
        return await forks.run(*args, "--nats", url)


async def test_a_login_of_the_fabric_founds_no_journal_beside_those(broker: Broker) -> None:
    code, _, err = await headrace(broker, "credits", "grant", "acme", "5", "--create", role="admin")
    assert code == 1
    assert "no journal of credits at" in err
    assert "'ledger'" in err
    code, out, _ = await headrace(broker, "usage", "--json", role="admin")
    assert (code, json.loads(out)["data"]) == (0, [])


async def test_the_commands(broker: Broker, opened: Open) -> None:
    ledger = await opened()
    grant = ("credits", "grant", "acme", "12.5", "--note", "hi")
    code, _, err = await headrace(broker, *grant)
    assert (code, err.strip()) == (
        1,
        "headrace: no key that is known here has the account 'acme': mend the name, or say "
        "--create",
    )
    code, out, err = await headrace(broker, *grant, "--create")
    assert (code, out.strip(), err) == (0, "acme: 12.50 USD", "")
    held = await ledger.reserve(job(1, amount=3_000_000))
    await ledger.settle(
        held, purchase("job-1", prompt=7, ended_ms=1_800_000_000_000, cost=2_000_001)
    )

    _, out, _ = await headrace(broker, "credits", "show", "--json")
    assert json.loads(out)["data"] == [{"account": "acme", "available": 10_499_999, "reserved": 0}]
    _, out, _ = await headrace(broker, "credits", "show", "acme")
    assert "10.499999" in out
    _, out, _ = await headrace(broker, "credits", "history", "acme", "--limit", "2", "--json")
    assert [row["kind"] for row in json.loads(out)["data"]] == ["reserve", "charge"]
    dearer = await ledger.reserve(job(2, amount=1_000_000))
    await ledger.settle(dearer, purchase("job-2", ended_ms=1_800_000_000_000, cost=1_250_000))
    _, out, _ = await headrace(broker, "credits", "history", "acme")
    assert "0.25 more was not charged" in out
    _, out, _ = await headrace(broker, "usage", "--by", "day,model", "--json")
    told = json.loads(out)
    (row,) = told["data"]
    assert (row["day"], row["model"], row["cost"]) == ("2027-01-15", "m", 3_000_001)
    assert (row["requests"], row["prompt"], row["uncharged"]) == (2, 7, 250_000)
    assert told["total"]["cost"] == 3_000_001
    _, out, _ = await headrace(broker, "usage", "--by", "provider,month", "--csv")
    assert out.splitlines()[1].startswith("openai,2027-01,2,0,7,")
    _, out, _ = await headrace(broker, "usage", "--by", "key", "--until", "2027-01-14")
    assert out.split()[-6:] == ["total", *["0"] * 4, "0.00"]
    code, _, err = await headrace(broker, "usage", "--until", "soon")
    assert (code, err.strip()) == (
        1,
        "headrace: --until: 'soon' is neither 7d, 12h, 30m nor a day as 2026-11-01 or a month "
        "2026-11",
    )

    code, _, err = await headrace(broker, "credits", "grant", "", "1", "--create")
    assert (code, "an account has a name" in err) == (1, True)
    code, _, err = await headrace(broker, "credits", "grant", "acme", "1.0000001")
    assert (code, "up to 6 decimals" in err) == (1, True)
    code, _, err = await headrace(broker, "credits", "grant", "acme", "-20")
    assert (code, err.strip()) == (1, "headrace: acme has 9.499999 USD: no more can be taken back")
