"""How the console follows the requests that a key may see."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from deploy.console import watch
from deploy.console.edge import AWAY, EdgeFault
from deploy.console.watch import Seen, Watch, Watches
from schemas.requests import MOST_ROWS

NOW = 1000.0


def row(id: str, state: str = "ended") -> dict[str, Any]:
    return {"id": id, "state": state, "model": "m", "arrived": NOW - 15, "took": 1.0}


def answer(*rows: dict[str, Any], after: str = "a", complete: bool = True) -> dict[str, Any]:
    return {"data": list(rows), "after": after, "complete": complete}


class Ingress:
    """Answers as it is told, and keeps what it was asked."""

    def __init__(self, *said: dict[str, Any] | EdgeFault, digest: str = "d") -> None:
        self.said = list(said)
        self.asked: list[Any] = []
        self.digest = digest

    async def get(self, path: str, **query: Any) -> Any:
        self.asked.append(query["after"])
        await asyncio.sleep(0)
        found = self.said.pop(0)
        if isinstance(found, EdgeFault):
            raise found
        return found


def watching(*said: dict[str, Any] | EdgeFault) -> tuple[Watch, Ingress]:
    ingress = Ingress(*said)
    return Watch(ingress, clock=lambda: NOW), ingress  # type: ignore[arg-type]


def test_the_newest_stands_first_and_what_runs_before_all() -> None:
    seen = Seen()
    seen.take(answer(row("c", "running"), row("b"), row("a")))
    seen.take(answer(row("d"), row("c"), after="b"))
    assert [each["id"] for each in seen] == ["d", "c", "b", "a"]
    assert (len(seen), seen.live) == (4, 0)
    assert seen.find("b") == row("b")
    assert seen.find("x") is None


def test_the_version_says_whether_anything_is_new() -> None:
    seen = Seen()
    seen.take(answer(row("a", "running")))
    before = seen.version
    seen.take(answer(row("a", "running")))
    assert seen.version == before
    seen.take(answer(row("a")))
    assert seen.version > before


def test_what_is_kept_has_an_end() -> None:
    seen = Seen()
    for first in range(0, watch.MOST + 500, 500):
        seen.take(answer(*(row(str(n)) for n in reversed(range(first, first + 500)))))
    assert len(seen) == watch.MOST
    assert next(iter(seen))["id"] == str(watch.MOST + 499)


def test_a_full_answer_says_that_some_were_skipped() -> None:
    seen = Seen()
    full = [row(str(n)) for n in range(MOST_ROWS)]
    seen.take(answer(*full))
    assert not seen.skipped  # before the first one nothing is missed
    seen.take(answer(*full))
    assert seen.skipped


async def test_each_answer_goes_on_where_the_one_before_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "FRESH", 0.0)
    watched, ingress = watching(answer(row("a"), after="1"), answer(row("b"), after="2"))
    await watched.look()
    await watched.look()
    assert ingress.asked == [None, "1"]
    assert len(watched.seen) == 2
    assert sum(point.ended for point in watched.history.points(NOW)) == 2


async def test_several_pages_are_one_question(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "FRESH", 1e9)
    watched, ingress = watching(answer())
    await asyncio.gather(watched.look(), watched.look())
    assert len(ingress.asked) == 1


async def test_a_fault_is_told_until_an_answer_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "FRESH", 0.0)
    watched, _ = watching(EdgeFault(AWAY, "gone"), answer(row("a")), EdgeFault("busy", "no", 503))
    await watched.look()
    assert (watched.fault, watched.asked) == ("gone", False)
    await watched.look()
    assert (watched.fault, watched.asked) == ("", True)
    await watched.look()
    assert watched.fault == "no (busy)"
    assert len(watched.seen) == 1


async def test_who_may_not_see_it_any_more_is_shown_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "FRESH", 0.0)
    watched, _ = watching(answer(row("a")), EdgeFault("invalid_api_key", "no", 401))
    await watched.look()
    await watched.look()
    assert len(watched.seen) == 0
    assert watched.history.models(NOW) == []


def test_one_key_is_one_watch() -> None:
    watches, edge = Watches(), Ingress()
    assert watches.of(edge) is watches.of(Ingress())  # type: ignore[arg-type]


def test_keys_that_were_used_longest_ago_are_dropped() -> None:
    watches = Watches()
    edges: list[Any] = [Ingress(digest=str(n)) for n in range(watch.MOST_KEYS + 1)]
    first, second = watches.of(edges[0]), watches.of(edges[1])
    for edge in (*edges[2:-1], edges[0], edges[-1]):
        watches.of(edge)
    assert watches.of(edges[0]) is first
    assert watches.of(edges[1]) is not second


async def test_what_is_no_answer_of_an_ingress_is_told() -> None:
    watched, _ = watching({"nope": 1})
    await watched.look()
    assert "no ingress" in watched.fault
    assert not watched.asked


def test_a_key_that_is_no_admin_any_more_sees_nothing_of_before() -> None:
    watches, edge = Watches(), Ingress()
    before = watches.of(edge, ("admin", "inference"))  # type: ignore[arg-type]
    assert watches.of(edge, ("inference", "admin")) is before  # type: ignore[arg-type]
    assert watches.of(edge, ("inference",)) is not before  # type: ignore[arg-type]
