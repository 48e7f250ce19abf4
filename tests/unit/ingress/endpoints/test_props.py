from __future__ import annotations

import pytest

from schemas.nodes import ServedModel
from tests.unit import fakes
from tests.unit.ingress.asgi import FakeBusIngress


async def test_what_clients_of_llama_server_read_is_there(ingress: FakeBusIngress) -> None:
    seeing = ServedModel("org/eyes", "e", "llamacpp", 2, 2048, ("text", "vision"))
    ingress.catalog.hear(fakes.card("w-2", models=(seeing,)))
    call = await ingress.call("GET", "/props?model=org/eyes").whole()
    assert call.status == 200
    assert call.json == {
        "default_generation_settings": {"n_ctx": 2048},
        "total_slots": 2,
        "model_alias": "org/eyes",
        "modalities": {"vision": True, "audio": False},
    }


@pytest.mark.parametrize("path", ["/props?model=nobody", "/props", "/props?model="])
async def test_of_no_model_and_of_none_that_is_named_nothing_is_told(
    ingress: FakeBusIngress, path: str
) -> None:
    call = await ingress.call("GET", path).whole()
    assert (call.status, call.json["error"]["code"]) == (404, "model_not_found")
    assert "chat, echo" in call.json["error"]["message"]


async def test_only_to_those_with_a_key(ingress: FakeBusIngress) -> None:
    call = await ingress.call("GET", "/props?model=echo", headers={}).whole()
    assert call.status == 401
