"""What one ingress tells of its requests."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ingress.answer import recent as recents
from ingress.answer.recent import Recent
from ingress.jobs.ended import Ended
from ingress.jobs.state import Times
from schemas import requests as words
from schemas import subjects
from schemas.bus import BusError
from schemas.requests import MOST_ROWS, Question, Told
from tests.unit.fakes import FakeBus, message, turns

ACCOUNT = "a"


def _ended(number: int, why: str, **more: Any) -> Ended:
    said = {"id": f"r{number}", "job": f"j{number}", "error": "engine_failed", "why": why}
    line = {**said, "stream": True, "ms": 2000.0, **more}
    times = Times(queued=0.0, posted=0.0, freed=0.0)
    return Ended(number, ACCOUNT, 0, line, times, [], "node:n", 1.0)


def _told(bus: FakeBus, why: str) -> Told:
    ended = [_ended(number, why) for number in range(1, MOST_ROWS + 1)]
    recent = Recent(bus, "i", {}, ended)
    recent._answer(message("s", Question().pack(), "reply"))
    (post,) = bus.posts
    assert len(post.payload) < bus.max_payload
    return words.told(post.payload)


def test_all_rows_are_told_that_were_asked_for() -> None:
    found = _told(FakeBus(), "it failed")
    assert [row["id"] for row in found.ended] == [f"j{n}" for n in range(1, MOST_ROWS + 1)]


def test_long_reasons_leave_room_for_the_newest() -> None:
    found = _told(FakeBus(), "失" * 1024)
    assert found.last == MOST_ROWS
    assert found.ended[-1]["id"] == f"j{MOST_ROWS}"
    assert len(found.ended) > MOST_ROWS // 4 - 1


@pytest.mark.parametrize(
    ("said", "pace"),
    [
        ({"ttft_ms": 1000.0, "completion_tokens": 101}, 100.0),
        ({"stream": False, "queue_ms": 500.0, "ttft_ms": 1999.0, "completion_tokens": 30}, 20.0),
        ({"ttft_ms": 2000.0, "completion_tokens": 30}, None),
        ({"ttft_ms": 1000.0, "completion_tokens": 1}, None),
        ({"ttft_ms": 1000.0}, None),
        ({"completion_tokens": 30}, None),
    ],
)
def test_how_fast_an_answer_came_is_told(said: dict[str, Any], pace: float | None) -> None:
    recent = Recent(FakeBus(), "i", {}, [_ended(1, "", **said)])
    (row,) = recent.told(Question(), 0.0).ended
    assert row.get("tokens_per_second") == pace


class Peers:
    """An ingress `i` whose questions a test answers as others would. `at_once`: who answer before
    anything else happens."""

    def __init__(self, bus: FakeBus, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bus = bus
        self.recent = Recent(bus, "i", {}, [])
        self.at_once: list[str] = []
        self._post = bus.post
        monkeypatch.setattr(bus, "post", self._posted)

    def _posted(self, *args: Any) -> None:
        self._post(*args)
        self.tell(*self.at_once)

    def tell(self, *ingresses: str, cancelled: bool = False) -> None:
        """These answer the question that was asked last."""
        reply = self.bus.posts[-1].reply
        for name in ingresses:
            self.recent._hear(message(reply, Told(name, cancelled=cancelled).pack()))

    def hear_of(self, name: str) -> None:
        self._say(Question(ingress=name))

    def leave(self, name: str) -> None:
        self._say(Question(ingress=name, leaves=True))

    def _say(self, question: Question) -> None:
        asked = question.pack()
        self.recent._answer(message(subjects.ASK_REQUESTS, asked, "elsewhere"))


@pytest.fixture
def peers(bus: FakeBus, monkeypatch: pytest.MonkeyPatch) -> Peers:
    return Peers(bus, monkeypatch)


async def test_who_has_come_is_waited_for_though_it_is_late(
    peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recents, "PATIENCE", 0.0)
    monkeypatch.setattr(recents, "LATE", 60.0)
    await peers.recent.open()
    assert words.question(peers.bus.posts[-1].payload).ingress == "i", "others hear of it, too"
    peers.hear_of("other")
    finding = asyncio.create_task(peers.recent.find(Question()))
    await turns()
    peers.tell("i")
    await turns()
    assert not finding.done()
    peers.tell("other")
    found, whole = await finding
    assert ({each.ingress for each in found}, whole) == ({"i", "other"}, True)


async def test_who_does_not_answer_is_told_of(
    peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recents, "LATE", 0.01)
    peers.hear_of("other")
    peers.at_once = ["i"]
    found, whole = await peers.recent.find(Question())
    assert ([each.ingress for each in found], whole) == (["i"], False)


async def test_who_did_not_answer_is_waited_for_again_once_it_is_heard(
    peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recents, "PATIENCE", 0.0)
    monkeypatch.setattr(recents, "LATE", 0.01)
    peers.hear_of("other")
    peers.at_once = ["i"]
    assert not (await peers.recent.find(Question()))[1]
    assert (await peers.recent.find(Question()))[1]
    assert not await peers.recent.cancel("j", "a"), "and nobody has it"
    peers.hear_of("other")
    assert not (await peers.recent.find(Question()))[1]


async def test_who_has_left_is_not_waited_for(
    peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recents, "PATIENCE", 0.0)
    monkeypatch.setattr(recents, "LATE", 60.0)
    peers.hear_of("other")
    peers.at_once = ["i"]
    finding = asyncio.create_task(peers.recent.find(Question()))
    await turns()
    assert not finding.done()
    peers.leave("other")
    assert (await finding)[1]


async def test_who_leaves_says_so_and_answers_nobody_any_more(peers: Peers) -> None:
    peers.recent.leave()
    asked = words.question(peers.bus.posts[-1].payload)
    assert (asked.ingress, asked.leaves) == ("i", True)
    peers.hear_of("other")
    assert len(peers.bus.posts) == 1


async def test_what_is_to_end_is_not_said_to_be_nowhere_while_one_has_not_answered(
    peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recents, "LATE", 0.01)
    peers.hear_of("other")
    peers.at_once = ["i"]
    with pytest.raises(BusError, match="not every ingress"):
        await peers.recent.cancel("j", "a")


async def test_who_has_what_is_to_end_need_not_wait_for_others(peers: Peers) -> None:
    peers.hear_of("other")
    ending = asyncio.create_task(peers.recent.cancel("j", "a"))
    await turns()
    peers.tell("i", cancelled=True)
    assert await ending


async def test_where_nobody_else_is_known_somebody_may_be(
    peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recents, "PATIENCE", 60.0)
    monkeypatch.setattr(recents, "LATE", 60.0)
    finding = asyncio.create_task(peers.recent.find(Question()))
    await turns()
    peers.tell("i")
    await turns()
    assert not finding.done()
    peers.tell("other")
    found, whole = await finding
    assert ([each.ingress for each in found], whole) == (["i", "other"], True)


async def test_nobody_is_waited_for_longer_than_that(
    peers: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recents, "PATIENCE", 0.0)
    monkeypatch.setattr(recents, "LATE", 60.0)
    finding = asyncio.create_task(peers.recent.find(Question()))
    await turns()
    peers.tell("i")
    found, whole = await finding
    assert ([each.ingress for each in found], whole) == (["i"], True)
