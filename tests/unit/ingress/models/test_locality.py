from __future__ import annotations

from typing import Any

import pytest

from ingress.models import locality
from ingress.models.catalog import Catalog
from ingress.models.locality import ANY, CLOUD, LOCAL
from ingress.models.routes import Routes
from schemas.api.endpoints import CHAT
from schemas.errors import InvalidRequest, NoProvider
from schemas.frames import Role
from schemas.settings import Settings
from tests.unit.fakes import card

PROVIDER = {"name": "p", "url": "http://127.0.0.1:1"}
ROUTES: list[dict[str, Any]] = [
    {"name": "both", "model": "m", "providers": ["p/x"]},
    {"name": "now", "model": "n", "providers": ["p/x"], "claim": 0},
    {"name": "only", "providers": ["p/x"]},
    {"name": "kept", "model": "m", "providers": ["p/x"], "local_only": True},
    {"name": "plain", "model": "m"},
]


def planned(name: str, header: str | None = None, *, local: bool = False, live: str = "m") -> Any:
    catalog = Catalog(lambda: 0.0)
    catalog.hear(card("w-1", live))
    catalog.hear(card("fb-1", "m", "n", "only", role=Role.FALLBACK))
    config = Settings.model_validate({"providers": [PROVIDER], "route": ROUTES})
    return Routes(config, catalog).plan(name, CHAT, header or "", local)


@pytest.mark.parametrize(
    ("name", "header", "expected"),
    [
        ("both", None, ANY),
        ("both", "allow", ANY),
        ("both", "NEVER", LOCAL),
        ("both", "only", CLOUD),
        ("only", None, CLOUD),
        ("only", "allow", CLOUD),
        ("kept", None, LOCAL),
        ("kept", "allow", LOCAL),
        ("plain", "never", LOCAL),
        ("m", "allow", LOCAL),
        ("now", None, CLOUD),
    ],
)
def test_how_far_a_request_may_go(name: str, header: str | None, expected: str) -> None:
    assert planned(name, header).reach == expected


def test_at_once_only_while_no_worker_serves_it() -> None:
    assert planned("now", live="n").reach == ANY


def test_what_stays_beside_what_may_go_is_marked() -> None:
    assert (planned("m").mixed, planned("both", "never").mixed) == (True, True)


@pytest.mark.parametrize(
    ("name", "header", "local", "why"),
    [
        ("plain", "only", False, "no provider is configured"),
        ("kept", "only", False, "no provider is configured"),
        ("both", "only", True, "strictly local"),
        ("only", None, True, "strictly local"),
        ("only", "never", False, "x-headrace-fallback: never"),
    ],
)
def test_what_cannot_be_is_refused(name: str, header: str | None, local: bool, why: str) -> None:
    with pytest.raises(NoProvider, match=why):
        planned(name, header, local=local)


def test_a_strictly_local_key_keeps_its_requests_here() -> None:
    assert planned("both", "allow", local=True).reach == LOCAL


@pytest.mark.parametrize("word", ["yes", "", " ", "never,only"])
def test_other_words_are_refused(word: str) -> None:
    if not word.strip():
        assert planned("both", word).reach == ANY
        return
    with pytest.raises(InvalidRequest) as caught:
        planned("both", word)
    assert caught.value.param == locality.HEADER
