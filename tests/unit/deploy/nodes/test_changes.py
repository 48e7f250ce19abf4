"""What the hub answers the console, without a broker; with one: tests/acceptance/console."""

from __future__ import annotations

from pathlib import Path
from typing import Never

import orjson
import pytest

from deploy.configure import CommandFailed
from deploy.nodes import changes
from deploy.nodes.changes import Outcome
from deploy.nodes.desk import Desk
from schemas.bus import BusError
from schemas.jobs import CodecError


async def never() -> Never:
    raise AssertionError("the records are not read for this")


async def asked(data: bytes, store: Path, verb: str = changes.DRAIN) -> Outcome:
    return changes.unpack(await changes.make(verb, data, store, never))


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"name": 1}', orjson.dumps({"name": "x" * 5000})]
)
async def test_what_is_no_change_is_refused(data: bytes, tmp_path: Path) -> None:
    assert "two releases" in (await asked(data, tmp_path)).said


async def test_what_is_too_large_is_not_read(tmp_path: Path) -> None:
    outcome = await asked(b" " * (changes.MOST_BYTES + 1), tmp_path)
    assert (outcome.failed, "more than" in outcome.said) == (True, True)


@pytest.mark.parametrize("fault", [BusError("away"), CodecError("odd"), TimeoutError()])
async def test_a_broker_that_fails_is_told(fault: Exception, tmp_path: Path) -> None:
    async def failing() -> Desk:
        raise fault

    said = await changes.make(changes.EVICT, b'{"name": "box"}', tmp_path, failing)
    assert "try again" in changes.unpack(said).said


async def test_why_not_is_told_as_it_is(tmp_path: Path) -> None:
    async def refusing() -> Desk:
        raise CommandFailed("there is no node 'box'")

    said = await changes.make(changes.EVICT, b'{"name": "box"}', tmp_path, refusing)
    assert changes.unpack(said) == Outcome("there is no node 'box'", failed=True)


@pytest.mark.parametrize("data", [b"", b"[]", b'{"said": "x"}', b"\xff"])
def test_an_answer_that_is_none_is_known(data: bytes) -> None:
    with pytest.raises(CodecError):
        changes.unpack(data)
