"""``GET /v1/queue``."""

from __future__ import annotations

import time
from typing import Any

import pytest

from ingress.http.auth import Keys
from ingress.jobs.line import Place
from schemas.bus import BusError
from schemas.jetstream import queues
from schemas.jetstream.queues import Queue
from schemas.settings import Key
from tests.unit import fakes
from tests.unit.ingress.asgi import SECRET, Call, FakeBusIngress
from tests.unit.ingress.jobs.recorder import Holder

OTHER = "sk-other-0123456789abcdef"


class Broker:
    """What it says of the queues."""

    def __init__(self) -> None:
        self.queues = [
            Queue("echo", "b", 2, 2, 0, 9.5, 0, True),
            Queue("echo", "i", 7, 3, 4, 1.25, 0, True),
            Queue("elsewhere", "i", 1, 1, 0, 2.0, 0, False),
            Queue("old", "i of another version", 1, 1, 0, 2.0, 0, True),
        ]
        self.fault: BusError | None = None
        self.asked = 0

    async def read(self, _: object) -> list[Queue]:
        self.asked += 1
        if self.fault is not None:
            raise self.fault
        return self.queues


@pytest.fixture(autouse=True)
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    made = Broker()
    monkeypatch.setattr(queues, "read", made.read)
    return made


def bind(ingress: FakeBusIngress, **policy: Any) -> None:
    """The asking key gets this policy; another one may only ask for inference."""
    mine = {"name": "k", "account": "acme", "scopes": ["inference", "usage:read"]}
    key = Key.model_validate({**mine, "secret": SECRET, **policy})
    other = Key.model_validate({"name": "o", "account": "others", "secret": OTHER})
    ingress.context.keys = Keys([key, other])


async def ask(ingress: FakeBusIngress) -> Call:
    return await ingress.call("GET", "/v1/queue").whole()


async def of_echo(ingress: FakeBusIngress) -> dict[str, Any]:
    call = await ask(ingress)
    assert call.status == 200
    found: dict[str, Any] = next(each for each in call.json["data"] if each["model"] == "echo")
    return found


async def test_each_model_has_its_counts_by_lane(ingress: FakeBusIngress) -> None:
    bind(ingress)
    call = await ask(ingress)
    assert [each["model"] for each in call.json["data"]] == ["echo", "elsewhere"]
    echo, elsewhere = call.json["data"]
    lanes = {
        "interactive": {"running": 4, "waiting": 3, "oldest_wait": 1.25},
        "batch": {"running": 0, "waiting": 2, "oldest_wait": 9.5},
    }
    assert echo == {
        "object": "queue", "model": "echo", "slots": 4, "running": 4, "waiting": 5,
        "oldest_wait": 9.5, "drain_rate": None, "lanes": lanes,
        "own": {"waiting": 0, "requests": []},
    }  # fmt: skip
    assert (elsewhere["slots"], elsewhere["waiting"]) == (0, 1)


async def test_the_pace_is_told_once_answers_tell_it(ingress: FakeBusIngress) -> None:
    bind(ingress)
    ingress.dispatch.line._expected = lambda model, lane: 0.25
    assert (await of_echo(ingress))["drain_rate"] == 4.0


async def test_own_requests_have_their_places_and_others_are_not_named(
    ingress: FakeBusIngress,
) -> None:
    bind(ingress)
    calls = [ingress.ask({"authorization": f"Bearer {key}"}) for key in (SECRET, SECRET, OTHER)]
    mine, held, other = await ingress.all_submitted(3)
    held.frame(Holder("a", 1).claim(), held.times.queued)
    turn = time.monotonic() + 2.5
    ingress.dispatch.line.places = {
        mine.job.id: Place(2, turn), held.job.id: Place(1, turn), other.job.id: Place(3, turn),
    }  # fmt: skip
    own = (await of_echo(ingress))["own"]
    (told,) = own["requests"]
    assert own["waiting"] == 1
    assert (told["job"], told["key"], told["lane"]) == (mine.job.id, "k", "interactive")
    assert (told["position"], told["waited"]) == (2, 0.0)
    assert 2 < told["eta"] <= 2.5
    assert "others" not in str(own)
    for call in calls:
        call.leave()


async def test_what_has_no_place_yet_waits_all_the_same(ingress: FakeBusIngress) -> None:
    bind(ingress)
    call = ingress.ask()
    await ingress.submitted()
    own = (await of_echo(ingress))["own"]
    assert own["waiting"] == 1
    assert (own["requests"][0]["position"], own["requests"][0]["eta"]) == (None, None)
    call.leave()


async def test_models_that_the_key_may_not_use_are_not_there(ingress: FakeBusIngress) -> None:
    bind(ingress, models=["nothing"])
    assert (await ask(ingress)).json["data"] == []
    bind(ingress, models=["chat"])  # a route that leads to it
    assert [each["model"] for each in (await ask(ingress)).json["data"]] == ["echo"]


async def test_it_needs_the_scope(ingress: FakeBusIngress) -> None:
    bind(ingress, scopes=["inference"])
    call = await ask(ingress)
    assert (call.status, call.error["code"]) == (403, "insufficient_scope")
    bind(ingress, scopes=["admin"])
    assert (await ask(ingress)).status == 200


async def test_the_broker_is_asked_once_a_second_whoever_asks(
    ingress: FakeBusIngress, broker: Broker
) -> None:
    bind(ingress)
    for _ in range(3):
        await ask(ingress)
    assert broker.asked == 1


async def test_a_broker_that_is_away_is_a_503(ingress: FakeBusIngress, broker: Broker) -> None:
    bind(ingress)
    broker.fault = BusError("no answer")
    call = await ask(ingress)
    assert (call.status, call.error["code"]) == (503, "broker_unavailable")
    broker.fault = None
    assert (await ask(ingress)).status == 200


async def test_a_model_without_a_queue_is_there(ingress: FakeBusIngress, broker: Broker) -> None:
    bind(ingress)
    broker.queues = []
    ingress.catalog.hear(fakes.card("w-2", "idle"))
    data = (await ask(ingress)).json["data"]
    assert [(each["model"], each["waiting"], each["lanes"]) for each in data] == [
        ("echo", 0, {}),
        ("idle", 0, {}),
    ]
