"""Whether a session's key is still what it was."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.console import session
from deploy.console.edge import AWAY, EdgeFault
from deploy.console.session import Session, is_still_good


class Ingress:
    def __init__(self, said: Any) -> None:
        self.said = said
        self.url = "http://127.0.0.1:8080"

    async def get(self, path: str) -> Any:
        if isinstance(self.said, Exception):
            raise self.said
        return self.said


@pytest.mark.parametrize(
    ("said", "good"),
    [
        ({"name": "a", "scopes": ["inference", "admin"]}, True),
        ({"name": "a", "scopes": ["inference"]}, False),
        (EdgeFault("invalid_api_key", "no", 401), False),
        (EdgeFault("x", "no", 403), False),
        (EdgeFault(AWAY, "away"), True),
        (EdgeFault("x", "no", 500), True),
        (TimeoutError(), True),
        ({"scopes": None}, True),
        ([], True),
        (None, True),
    ],
)
async def test_only_what_an_ingress_says_ends_a_session(said: Any, good: bool) -> None:
    here = Session("a", ("admin", "inference"), Ingress(said), None)  # type: ignore[arg-type]
    assert await is_still_good(here) is good


async def test_an_answer_without_the_holder_is_a_fault_of_the_ingress() -> None:
    with pytest.raises(EdgeFault, match="is no ingress") as fault:
        await session.holder(Ingress("hello"))  # type: ignore[arg-type]
    assert fault.value.status == 502
