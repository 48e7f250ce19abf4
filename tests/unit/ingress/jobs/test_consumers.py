from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ingress.jobs import consumers
from ingress.jobs.consumers import Consumers
from ingress.models.catalog import Catalog
from schemas import subjects
from schemas.bus import ApiError
from schemas.settings import Settings
from tests.unit import fakes
from tests.unit.fakes import FakeBus, card


class ConsumersSetup:
    """The consumers that are at the broker, and what an ingress knows of models."""

    def __init__(self) -> None:
        self.bus = FakeBus()
        self.bus.api_answer = self._answer
        self.there: set[str] = set()
        self.busy: set[str] = set()
        self.catalog = Catalog(lambda: 500.0)
        config = Settings.model_validate({"ingress": {"forget_models": 3600}})
        self.consumers = Consumers(self.bus, config, self.catalog, self.busy.__contains__)

    def _answer(self, verb: str, body: Any) -> dict[str, Any]:
        if verb.startswith("CONSUMER.CREATE."):
            assert body["config"]["inactive_threshold"] == 3600 * 10**9
            self.there.add(body["config"]["durable_name"])
            return {}
        assert verb == "CONSUMER.NAMES.JOBS"
        return {"consumers": sorted(self.there), "total": len(self.there)}

    async def look(self) -> list[str]:
        await self.consumers._look()
        await self.consumers._make_all()
        return self.catalog.known()


@pytest.fixture
def setup() -> ConsumersSetup:
    return ConsumersSetup()


async def test_what_a_card_shows_has_consumers(setup: ConsumersSetup) -> None:
    shown = card("w.1", "m")
    setup.catalog.hear(shown)
    setup.consumers.hear(shown)
    await setup.consumers._make_all()
    wanted = {subjects.consumer("m", lane) for lane in ("i", "b")}
    assert wanted <= setup.there
    setup.there.clear()
    await setup.look()
    assert wanted <= setup.there


async def test_those_of_a_card_that_comes_again_are_made_once(setup: ConsumersSetup) -> None:
    shown = card("w.1", "m")
    setup.catalog.hear(shown)
    for _ in range(3):
        setup.consumers.hear(shown)
        await setup.consumers._make_all()
    made = len(setup.bus.api_calls)
    assert made == len(consumers.of(shown))
    setup.consumers.doubt()
    await setup.consumers._make_all()
    assert len(setup.bus.api_calls) == 2 * made, "as after a new connection"


async def test_a_fallback_needs_the_lanes_that_it_looks_into() -> None:
    paid = card("f.1", "m", role="fallback")
    assert consumers.of(paid) == [("m", subjects.CLOUD), ("m", subjects.INTERACTIVE)]


async def test_one_that_the_broker_refuses_holds_up_no_other(
    setup: ConsumersSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until nobody shows it any more."""
    for shown in (card("w.1", "bad"), card("w.2", "good")):
        setup.catalog.hear(shown)
        setup.consumers.hear(shown)
    good, answer = asyncio.Event(), setup.bus.api_answer

    def refuse(verb: str, body: Any) -> dict[str, Any]:
        if ".bad-" in verb:
            raise ApiError(verb, {"code": 400, "err_code": 10026, "description": "too many"})
        if ".good-b" in verb:
            good.set()
        return answer(verb, body)

    setup.bus.api_answer = refuse
    monkeypatch.setattr(consumers, "_RETRY", 0.001)
    making = asyncio.create_task(setup.consumers._make_all())
    async with asyncio.timeout(fakes.PATIENCE):
        await good.wait()
        assert not making.done()
        setup.catalog.forget("w.1")
        await making
    assert not [name for name in setup.there if name.startswith("bad")]


async def test_a_model_without_a_consumer_is_forgotten_if_nobody_serves_it(
    setup: ConsumersSetup,
) -> None:
    for model in ("gone", "kept", "busy"):
        setup.catalog.know(model)
    setup.catalog.know("routed", lasting=True)
    setup.catalog.hear(card("w.1", "served"))
    setup.there.add(subjects.consumer("kept", "i"))
    setup.busy.add("busy")
    assert await setup.look() == ["busy", "kept", "routed", "served"]
    setup.there.clear()
    setup.busy.clear()
    assert await setup.look() == ["routed", "served"]


async def test_it_looks_now_and_then(
    setup: ConsumersSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "LOOK_EACH", 0.001)
    setup.catalog.know("gone")
    task = asyncio.create_task(setup.consumers.run())
    while setup.catalog.known():
        await fakes.turns(1)
    task.cancel()
