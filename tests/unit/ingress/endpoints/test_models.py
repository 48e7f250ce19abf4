from __future__ import annotations

from typing import Any

import pytest

from schemas.nodes import Ignored, ServedModel
from tests.unit import fakes
from tests.unit.ingress.asgi import SECRET, FakeBusIngress


async def get(ingress: FakeBusIngress, path: str) -> tuple[int, Any]:
    call = await ingress.call("GET", path).whole()
    return call.status, call.json


async def test_live_models_and_the_names_that_lead_to_them_are_listed(
    ingress: FakeBusIngress,
) -> None:
    ingress.catalog.know("absent")
    status, page = await get(ingress, "/v1/models")
    assert (status, page["object"]) == (200, "list")
    assert [entry["id"] for entry in page["data"]] == ["chat", "echo"]
    assert [each["model"] for each in page["models"]] == ["chat", "echo"]
    for entry in page["data"]:
        assert entry["object"] == "model"
        assert entry["created"] == 1700000000
        assert entry["headrace"]["model"] == "echo"


async def test_a_model_says_where_it_is_served(ingress: FakeBusIngress) -> None:
    narrow = ServedModel("echo", "e", "llamacpp", 2, 2048, ("text", "vision"))
    ingress.catalog.hear(fakes.card("w-2", models=(narrow,), started=1600000000))
    status, entry = await get(ingress, "/v1/models/echo")
    facts = entry["headrace"]
    assert status == 200
    assert (entry["created"], facts["slots"], facts["context"]) == (1600000000, 6, 2048)
    assert (entry["max_model_len"], entry["meta"]) == (2048, {"n_ctx": 2048})
    assert facts["engines"] == ["echo", "llamacpp"]
    assert facts["modalities"] == ["text", "vision"]
    assert facts["nodes"] == ["node-of-w-1", "node-of-w-2"]


async def test_what_it_ignores_is_said_with_the_endpoints_where_it_does(
    ingress: FakeBusIngress,
) -> None:
    ignores = (
        Ignored("seed", "no such thing", ("messages",)),
        Ignored("logprobs", "not there", ("completions",)),
        Ignored("n", "one choice"),
    )
    features = ("chat", "messages")
    one = ServedModel("m", "e", "llamacpp", 2, features=features, ignores=ignores)
    wider = (Ignored("seed", "never", ("chat",)), Ignored("n", "one", ("chat",)))
    other = ServedModel("m", "f", "vllm", 2, features=features, ignores=wider)
    ingress.catalog.hear(fakes.card("w-2", models=(one,)))
    ingress.catalog.hear(fakes.card("w-3", models=(other,)))
    facts = (await get(ingress, "/v1/models/m"))[1]["headrace"]
    assert facts["ignores"] == {
        "seed": {"why": "no such thing", "at": ["chat", "messages"]},
        "n": {"why": "one choice"},
    }


async def test_a_model_may_have_slashes_in_its_id(ingress: FakeBusIngress) -> None:
    ingress.catalog.hear(fakes.card("w-2", "org/model:q4"))
    assert (await get(ingress, "/v1/models/org/model:q4"))[1]["id"] == "org/model:q4"


async def test_a_model_is_found_however_clients_spell_it(ingress: FakeBusIngress) -> None:
    for name in ("Echo", "openai/CHAT", "echo.gguf"):
        status, entry = await get(ingress, f"/v1/models/{name}")
        assert (status, entry["id"], entry["headrace"]["model"]) == (200, name, "echo")


@pytest.mark.parametrize("name", ["x", "absent", "echo/", "chat/echo"])
async def test_a_model_that_is_not_served_is_a_404(ingress: FakeBusIngress, name: str) -> None:
    ingress.catalog.know("absent")
    status, body = await get(ingress, f"/v1/models/{name}")
    assert (status, body["error"]["code"]) == (404, "model_not_found")
    assert "chat, echo" in body["error"]["message"]


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/echo"])
async def test_only_to_those_with_a_key(ingress: FakeBusIngress, path: str) -> None:
    call = await ingress.call("GET", path, headers={}).whole()
    assert call.status == 401


CLAUDE = {"anthropic-version": "2023-06-01", "x-api-key": SECRET}


async def paged(ingress: FakeBusIngress, query: str = "") -> tuple[int, Any]:
    call = await ingress.call("GET", f"/v1/models{query}", headers=CLAUDE).whole()
    assert call.headers["request-id"] == call.headers["x-request-id"]
    return call.status, call.json


async def test_clients_of_anthropic_get_their_own_list(ingress: FakeBusIngress) -> None:
    status, page = await paged(ingress)
    assert (status, page["has_more"]) == (200, False)
    assert (page["first_id"], page["last_id"]) == ("chat", "echo")
    assert [entry["type"] for entry in page["data"]] == ["model", "model"]
    said = {"id": "echo", "display_name": "echo", "lifecycle": "active"}
    assert page["data"][1].items() >= {**said, "created_at": "2023-11-14T22:13:20Z"}.items()
    assert (await paged(ingress, "/echo"))[1] == page["data"][1]
    status, body = await paged(ingress, "/absent")
    assert (status, body["type"], body["error"]["type"]) == (404, "error", "not_found_error")


async def test_their_list_has_pages_both_ways(ingress: FakeBusIngress) -> None:
    for number in range(5):
        ingress.catalog.hear(fakes.card(f"w-{number + 5}", f"m{number}"))
    for query, names, more in (
        ("?limit=2", ["chat", "echo"], True),
        ("?limit=2&after_id=echo", ["m0", "m1"], True),
        ("?limit=4&after_id=m0", ["m1", "m2", "m3", "m4"], False),
        ("?after_id=m4", [], False),
        ("?limit=2&before_id=m2", ["m0", "m1"], True),
        ("?limit=3&before_id=m0", ["chat", "echo"], False),
        ("?after_id=chat&before_id=m1", ["echo", "m0"], False),
        ("?limit=2&after_id=chat&before_id=m2", ["echo", "m0"], True),
        ("?after_id=m1&before_id=echo", [], False),
        ("?limit=2&after_id=left", ["m0", "m1"], True),
        ("?limit=1&before_id=left", ["echo"], True),
        ("?lifecycle=retired", [], False),
        ("?lifecycle[]=active&lifecycle[]=retired&limit=1", ["chat"], True),
    ):
        _, page = await paged(ingress, query)
        assert ([entry["id"] for entry in page["data"]], page["has_more"]) == (names, more), query
        assert page["first_id"] == (names[0] if names else None)
        assert page["last_id"] == (names[-1] if names else None)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        *[
            (f"?limit={limit}", "limit")
            for limit in ("0", "1001", "00001001", "x", "-1", "9" * 6000, "1.5")
        ],
    ],
)
async def test_pages_that_are_none_are_refused_by_name(
    ingress: FakeBusIngress, query: str, param: str
) -> None:
    status, body = await paged(ingress, query)
    assert (status, body["error"]["type"]) == (400, "invalid_request_error")
    assert body["error"]["param"] == param
