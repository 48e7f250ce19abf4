"""Alerts on a real broker, and at a real receiver: once, again until taken, by any ingress."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import openai
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from deploy.nats.broker import Broker
from ingress.webhook import Webhook
from schemas import alerts, subjects, topology
from schemas import bus as buses
from schemas.alerts import Budget
from schemas.bus import Bus
from schemas.jetstream import reading, streams
from schemas.jetstream.alarm import Alarm
from schemas.settings import Jobs, Nats, Settings
from tests.doubles.receiver import Receiver, receiver

BUDGET = Budget("monthly_tokens", "acme", "k", "2026-11", 850, 1000, "tokens")
SECRET = "a secret of more than sixteen letters"


@asynccontextmanager
async def connected(broker: Broker, role: str, inbox: str) -> AsyncIterator[Bus]:
    user, password = broker.users[role]
    login = Nats(url=broker.url, user=user, password=SecretStr(password))
    bus = await buses.connect(login, "test", f"{inbox}.{role}")
    yield bus
    await bus.close()


@pytest.fixture
async def ingress(broker: Broker) -> AsyncIterator[Bus]:
    async with connected(broker, "ingress", subjects.INBOX_INGRESS) as bus:
        await streams.ensure(bus, topology.streams(Jobs(), 1))
        yield bus


@pytest.fixture
async def fallback(broker: Broker) -> AsyncIterator[Bus]:
    async with connected(broker, "fallback", subjects.INBOX_FALLBACK) as bus:
        yield bus


@pytest.fixture
async def receiving() -> AsyncIterator[Receiver]:
    async with receiver() as made:
        yield made


@asynccontextmanager
async def sending(bus: Bus, to: Receiver) -> AsyncIterator[None]:
    given = {"url": to.url, "secret": SECRET}
    running = asyncio.create_task(Webhook(Settings.model_validate({"alerts": given})).run(bus))
    while not await consumers(bus):
        await asyncio.sleep(0.01)
    yield
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def consumers(bus: Bus) -> bool:
    found = await streams.info(bus, subjects.ALERTS_STREAM)
    return int(found["state"]["consumer_count"]) > 0


async def stored(bus: Bus) -> list[int]:
    found = reading.read(bus, subjects.ALERTS_STREAM)
    return [alerts.unpack(message.data).threshold async for message in found]


async def test_of_many_who_notice_one_says_it(ingress: Bus, fallback: Bus) -> None:
    alarms = [Alarm(bus, [80, 100]) for bus in (ingress, fallback, ingress, fallback)]
    with capture_logs() as lines:
        for alarm in alarms:
            alarm.note(BUDGET)
        for alarm in alarms:
            await asyncio.gather(*alarm._writing)
    assert [line["event"] for line in lines] == ["alerts.reached"]
    assert await stored(ingress) == [80]


async def test_it_is_posted_signed_and_once(ingress: Bus, receiving: Receiver) -> None:
    async with sending(ingress, receiving), sending(ingress, receiving):
        alarm = Alarm(ingress, [80, 100])
        alarm.note(BUDGET)
        await receiving.got(1)
        alarm.note(replace(BUDGET, used=1000))
        first, second = await receiving.got(2)
    assert (first.data["threshold"], second.data["threshold"]) == (80, 100)
    assert first.headers["content-type"] == "application/json"
    with openai.OpenAI(api_key="x") as client:
        client.webhooks.verify_signature(first.body, first.headers, secret=SECRET)
    assert len(receiving.calls) == 2


async def test_it_is_sent_again_until_it_is_taken(ingress: Bus, receiving: Receiver) -> None:
    """A redirect is not followed: it would tell others what is meant for one."""
    receiving.statuses = [500, 302]
    with capture_logs() as lines:
        async with sending(ingress, receiving):
            Alarm(ingress, [80]).note(BUDGET)
            calls = await receiving.got(3)
    assert len({call.headers["webhook-id"] for call in calls}) == 1
    told = [line["error"] for line in lines if line["event"] == "alerts.not_sent"]
    assert told == ["it answered 500", "it answered 302"]
    assert "T0PSECRET" not in str(lines)
    assert SECRET not in str(lines)


async def test_one_that_is_not_taken_does_not_hold_up_others(
    ingress: Bus, receiving: Receiver
) -> None:
    receiving.statuses = [503]
    async with sending(ingress, receiving):
        alarm = Alarm(ingress, [80])
        alarm.note(BUDGET)
        await receiving.got(1)
        alarm.note(replace(BUDGET, key="other"))
        calls = await receiving.got(3)
    assert sorted(call.data["key"] for call in calls) == ["k", "k", "other"]


async def test_what_nobody_listens_to_waits_for_another(ingress: Bus, receiving: Receiver) -> None:
    """The ingress ends before its receiver is there; the next one sends what is left."""
    url, receiving.url = receiving.url, "http://127.0.0.1:9/none"
    with capture_logs() as lines:
        async with sending(ingress, receiving):
            Alarm(ingress, [80]).note(BUDGET)
            while not any(line["event"] == "alerts.not_sent" for line in lines):
                await asyncio.sleep(0.01)
    receiving.url = url
    async with sending(ingress, receiving):
        [call] = await receiving.got(1)
    assert call.data["account"] == "acme"


async def test_garbage_is_dropped(ingress: Bus, receiving: Receiver) -> None:
    with capture_logs() as lines:
        async with sending(ingress, receiving):
            await ingress.store(subjects.alert("x"), {}, b"no alert")
            Alarm(ingress, [80]).note(BUDGET)
            [call] = await receiving.got(1)
    assert call.data["threshold"] == 80
    assert "alerts.undecodable" in [line["event"] for line in lines]


async def test_without_a_url_nothing_is_sent(ingress: Bus) -> None:
    await Webhook(Settings()).run(ingress)
    assert not await consumers(ingress)
