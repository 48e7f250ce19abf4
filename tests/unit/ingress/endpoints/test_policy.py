"""What a key may do is kept to at every endpoint, and what it may not use does not exist for it."""

from __future__ import annotations

from typing import Any

import pytest

from ingress.http.auth import Keys
from schemas.nodes import Ignored, ServedModel
from schemas.settings import Key, Route, Settings
from tests.unit import fakes
from tests.unit.ingress.asgi import SECRET, Call, FakeBusIngress


def bind(ingress: FakeBusIngress, **policy: Any) -> None:
    """The one key gets this policy."""
    key = Key.model_validate({"name": "k", "secret": SECRET, **policy})
    ingress.context.keys = Keys([key])


async def get(ingress: FakeBusIngress, path: str) -> Call:
    return await ingress.call("GET", path).whole()


def nameless(call: Call, name: str) -> dict[str, Any]:
    """The error without the name that was asked for."""
    assert call.status == 404
    return {**call.error, "message": call.error["message"].replace(repr(name), "")}


async def test_a_model_that_the_key_may_not_use_does_not_exist(ingress: FakeBusIngress) -> None:
    ingress.catalog.hear(fakes.card("w-2", "llama3", "secret"))
    bind(ingress, models=["llama*", "chat"])
    listed = await get(ingress, "/v1/models")
    assert [each["id"] for each in listed.json["data"]] == ["chat", "llama3"]
    names = ("secret", "nowhere")
    asked = [nameless(await ingress.ask(model=name).whole(), name) for name in names]
    assert asked[0] == asked[1]
    assert "Known models: chat, llama3." in asked[0]["message"]
    shown = [nameless(await get(ingress, f"/v1/models/{name}"), name) for name in names]
    assert shown[0] == shown[1]
    tags = [each["name"] for each in (await get(ingress, "/api/tags")).json["models"]]
    running = [each["name"] for each in (await get(ingress, "/api/ps")).json["models"]]
    assert [name.removesuffix(":latest") for name in tags] == ["chat", "llama3"]
    assert [name.removesuffix(":latest") for name in running] == ["llama3"]


async def test_what_is_spelled_otherwise_is_looked_up_by_its_name_in_lists(
    ingress: FakeBusIngress,
) -> None:
    bind(ingress, models=["chat"])
    assert (await ingress.ask(model="echo:latest").whole()).status == 404
    call = ingress.ask(model="Chat")
    await ingress.submitted()
    call.leave()


async def test_a_request_that_names_no_model_gets_one_that_the_key_may_use(
    ingress: FakeBusIngress,
) -> None:
    ingress.catalog.hear(fakes.card("w-2", "aaa"))
    bind(ingress, models=["echo"])
    call = ingress.ask(model=None)
    assert (await ingress.submitted()).job.model == "echo"
    call.leave()


@pytest.mark.parametrize(
    ("scopes", "status"),
    [
        (["inference"], (200, 403, 403)),
        (["models:read"], (403, 200, 403)),
        (["inference:/v1/embeddings"], (403, 403, 403)),
        (["usage:read"], (403, 403, 403)),
        (["admin"], (403, 200, 400)),
    ],
)
async def test_scopes(
    ingress: FakeBusIngress, scopes: list[str], status: tuple[int, int, int]
) -> None:
    bind(ingress, scopes=scopes)
    call = ingress.ask()
    if status[0] == 200:
        await ingress.submitted()
        call.leave()
    else:
        refused = await call.whole()
        assert (refused.status, refused.error["code"]) == (403, "insufficient_scope")
    assert (await get(ingress, "/v1/models")).status == status[1]
    assert (await get(ingress, "/admin/credits/a/history?limit=0")).status == status[2]


@pytest.mark.parametrize("by", ["header", "key", "route", "server"])
async def test_leniency_has_four_sources_and_a_request_may_decline(
    by: str, ingress: FakeBusIngress
) -> None:
    model = ServedModel("m", "e", "k", 1, features=("chat",), ignores=(Ignored("tools", "none"),))
    ingress.catalog.hear(fakes.card("w-2", models=(model,)))
    route = Route(name="r", model="m", lenient=by == "route")
    config = Settings.model_validate({"ingress": {"lenient": by == "server"}, "route": [route]})
    ingress.context.routes = type(ingress.context.routes)(config, ingress.catalog)
    bind(ingress, lenient=by == "key")
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    strict = {"x-headrace-lenient": "false"}
    headers = {"x-headrace-lenient": "true"} if by == "header" else {}
    refused = await ingress.ask(strict, model="r", tools=tools).whole()
    assert (refused.status, refused.error["code"]) == (400, "unsupported_parameter")
    call = ingress.ask(headers, model="r", tools=tools)
    assert (await ingress.submitted()).job.lenient
    call.leave()


@pytest.mark.parametrize(
    "wrong",
    [
        {"scopes": ["inferense"]},
        {"scopes": ["inference:/v1/nowhere"]},
        {"nodes": [""]},
        {"models": [""]},
        {"expires": "2030-01-31"},
        {"expires": "soon"},
        {"expires": 0},
        {"weight": 0},
        {"lane": "x"},
        {"limits": {"requests": 0}},
        {"limits": {"reqests": 1}},
    ],
)
def test_a_policy_that_could_not_be_kept_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"1 validation error for Key\n" + next(iter(wrong))):
        Key.model_validate({"name": "k", "secret": SECRET, **wrong})


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        ({"name": "a"}, {"name": "a", "secret": "another-0123456789"}, "the name 'a'"),
        ({"name": "a"}, {"name": "b"}, "'a' and 'b' have the same secret"),
    ],
)
def test_keys_of_the_configuration_are_apart(
    one: dict[str, str], other: dict[str, str], why: str
) -> None:
    keys = [{"secret": SECRET, **each} for each in (one, other)]
    with pytest.raises(ValueError, match=why):
        Settings.model_validate({"keys": keys})
