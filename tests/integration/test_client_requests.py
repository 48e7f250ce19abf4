"""Requests of clients that cannot be installed here, or not in CI, as they were recorded or built
after their public sources (``tests/clients/requests``): each is answered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.api import sse
from tests.clients.caller import MODEL, Caller, Plan, Record
from tests.clients.dialects import Call
from tests.fabric import Fabric

REQUESTS = Path(__file__).parents[1] / "clients" / "requests"


def recorded() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(REQUESTS.glob("*.json")):
        for each in json.loads(path.read_text().replace('"MODEL"', json.dumps(MODEL))):
            yield f"{path.stem}: {each['name']}", each


async def test_each_request_of_a_client_is_answered(
    fabric: Fabric, subtests: pytest.Subtests
) -> None:
    record = Record(Plan((Call("none", {}),)))
    async with Caller(record) as engine:
        await fabric.ingress()
        await fabric.worker(engine.url)
        await fabric.served(MODEL)
        for name, each in recorded():
            with subtests.test(name):
                status, kind, answer = await _ask(fabric, each)
                assert status == 200, answer
                if kind.startswith(sse.CONTENT_TYPE):
                    found = [sse.object_of(event) for event in sse.split(answer)]
                    assert found
                    assert not [event for event in found if event and event.get("error")]
                else:
                    assert "error" not in {k for k, v in json.loads(answer).items() if v}
    await fabric.idle()


async def _ask(fabric: Fabric, each: dict[str, Any]) -> tuple[int, str, bytes]:
    """(status, content type, body)."""
    async with fabric.session.request(
        each.get("method", "POST"),
        fabric.url + each["path"],
        json=each.get("body"),
        headers={**fabric.headers, **each["headers"]},
    ) as answer:
        return answer.status, answer.content_type, await answer.read()
