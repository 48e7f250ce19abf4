"""What bodies may take, in all and of one key."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from ingress.http import held
from ingress.http.body import read_body
from ingress.http.held import HELD, OWNER, Bodies, Held, held_of, let_go
from ingress.jobs.spilled import Spilled
from schemas import settings
from schemas.errors import BodyTooLarge, OutOfRoom
from tests.unit import fakes

ROOM = 2**20
CONNECTIONS = 16


def bodies(**config: Any) -> Bodies:
    """Room for a megabyte, half of it for one key, beside what connections have of their own."""
    own = {"body_memory": ROOM + CONNECTIONS * held.SMALL, "max_connections": CONNECTIONS}
    config = {**own, "body_share": 0.5, "max_body": 1024, "inline_body": 0, **config}
    return Bodies(settings.Ingress(**config))


def request(*pieces: bytes, **headers: str) -> Request:
    coming = list(pieces)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": coming.pop(0), "more_body": bool(coming)}

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": raw, "state": {}}, receive)


async def refused(one: Held, size: int) -> bool:
    try:
        await one.cover(size)
    except OutOfRoom as error:
        return bool(error.retry_after)
    return False


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "PATIENCE", 0.01)


async def test_a_key_has_its_share_and_all_have_the_room() -> None:
    made = bodies()
    await Held(made, "a").cover(ROOM // 2)
    assert await refused(Held(made, "a"), 1)
    await Held(made, "b").cover(ROOM // 2 - 1)
    assert await refused(Held(made, "c"), 2)
    await Held(made, "c").cover(1)


async def test_what_is_let_go_is_there_for_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "PATIENCE", fakes.PATIENCE)
    made = bodies()
    first, second = Held(made, "a"), Held(made, "a")
    await first.cover(ROOM // 2)
    waiting = asyncio.create_task(second.cover(10))
    await asyncio.sleep(0)
    first.let_go()
    await waiting
    second.let_go()
    await Held(made, "a").cover(ROOM // 2)


async def test_one_body_of_the_largest_size_is_always_taken() -> None:
    await Held(bodies(max_body=2 * ROOM), "a").cover(2 * ROOM)


async def test_a_body_is_held_as_it_is_announced_and_as_it_comes() -> None:
    made = bodies(max_body=ROOM)
    for asked in (request(b"x" * 10, content_length="600000"), request(b"x" * 600_000)):
        made.hold(asked, "a")
        if "content-length" in asked.headers:
            await read_body(asked, ROOM)
        else:
            with pytest.raises(OutOfRoom):
                await read_body(asked, ROOM)
    let_go(request())  # nothing is held yet


@pytest.mark.parametrize("announced", [True, False])
async def test_a_small_body_is_its_connections_own(announced: bool) -> None:
    made = bodies()
    assert made.small == held.SMALL
    for size in (held.SMALL, held.SMALL + 1):
        length = {"content_length": str(size)} if announced else {}
        asked = request(b"x", b"x" * (size - 1), **length)
        asked.scope["state"][OWNER] = made, "a"
        await read_body(asked, ROOM)
        assert (HELD in asked.scope["state"]) == (size > held.SMALL)
    assert await refused(Held(made, "a"), ROOM // 2 - held.SMALL)
    await Held(made, "a").cover(ROOM // 2 - held.SMALL - 1)


@given(st.integers(2**20, 2**32), st.integers(16, 10**6))
def test_small_bodies_of_all_connections_are_within_the_memory(memory: int, most: int) -> None:
    made = bodies(body_memory=memory, max_connections=most, body_share=1)
    small = made.small * most
    assert small <= memory // 8
    assert made.memory.take("a", memory - small)
    assert not made.memory.take("b", 1)


async def test_a_small_body_has_its_limit_too() -> None:
    made = bodies()
    for asked in (request(b"x" * 2000), request(b"", content_length="2000")):
        asked.scope["state"][OWNER] = made, "a"
        with pytest.raises(BodyTooLarge):
            await read_body(asked, 1024)


async def test_a_request_holds_once_however_often_that_is_said() -> None:
    made, asked = bodies(), request()
    assert made.hold(asked, "a") is made.hold(asked, "a") is held_of(asked)
    await held_of(asked).cover(ROOM // 2)
    let_go(asked)
    assert HELD not in asked.scope["state"]
    await Held(made, "a").cover(ROOM // 2)


async def test_a_large_body_goes_to_a_file_and_its_memory_is_free(tmp_path: Path) -> None:
    made = bodies(body_folder=str(tmp_path))
    body = os.urandom(2**21)
    one = Held(made, "a")
    await one.cover(ROOM // 2)
    spilled = await one.spill(body)
    assert isinstance(spilled, Spilled)
    assert (len(spilled), spilled[:], spilled[5:70], spilled[len(body) :]) == (
        *(len(body), body, body[5:70], b""),
    )
    assert not list(tmp_path.iterdir()), "it has no name"
    await Held(made, "a").cover(ROOM // 2)


async def test_a_body_stays_in_memory_if_it_is_small_or_kept_or_files_have_no_room() -> None:
    body = bytes(held.SMALLEST + 1)
    kept = Held(bodies(), "a")
    kept.kept = True
    small, full = bodies(inline_body=len(body)), bodies(body_files=len(body))
    for one in (kept, Held(small, "a"), Held(full, "a")):
        assert await one.spill(body) is body


async def test_a_disk_that_is_full_keeps_no_request(tmp_path: Path) -> None:
    made = bodies(body_folder=str(tmp_path / "none"))
    body = bytes(held.SMALLEST + 1)
    assert await Held(made, "a").spill(body) is body
    assert made.files.take("a", round(settings.Ingress().body_files * 0.5)), "all is given back"


async def test_a_file_is_gone_with_its_body() -> None:
    one = await Held(bodies(), "a").spill(bytes(held.SMALLEST + 1))
    assert isinstance(one, Spilled)
    link = Path(f"/proc/self/fd/{one._descriptor}")
    assert link.exists()
    del one
    assert not link.exists()
