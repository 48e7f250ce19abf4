"""sd-server's own fields, under the names that clients send, in its own words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from schemas import multipart
from schemas.multipart import Part
from schemas.nodes import names_at
from tests.doubles.drive import ask, job
from tests.doubles.sdserver.server import SdServer
from tests.unit.workers.engines.sdcpp.setup import EVIL, SQUARE, draw, serving
from workers.engines.sdcpp.engine import EDITS, SdCppEngine

SENT: dict[str, Any] = {
    "negative_prompt": "blurry",
    "steps": 7,
    "cfg_scale": 4.5,
    "sampler": "DPM++ 2M",
    "scheduler": "karras",
    "clip_skip": 2,
    "strength": 0.5,
}
TOLD: dict[str, Any] = {
    "negative_prompt": "blurry",
    "clip_skip": 2,
    "strength": 0.5,
    "sample_params": {
        "sample_steps": 7,
        "sample_method": "dpm++2m",
        "scheduler": "karras",
        "guidance": {"txt_cfg": 4.5},
    },
}


@pytest.fixture
async def server() -> AsyncIterator[SdServer]:
    async with SdServer() as running:
        yield running


@pytest.fixture(params=[True, False], ids=["own-api", "openai-pages"])
async def engine(server: SdServer, request: pytest.FixtureRequest) -> AsyncIterator[SdCppEngine]:
    """By its own API, and by the tag that the fabric puts behind the prompt where there is none."""
    async with serving(server) as made:
        made._native = request.param
        yield made


def told(server: SdServer) -> dict[str, Any]:
    own = server.drawn[-1].own
    return {name: own[name] for name in TOLD if name in own}


async def test_they_reach_it(server: SdServer, engine: SdCppEngine) -> None:
    assert (await draw(engine, seed=5, **SENT)).status == 200
    assert told(server) == TOLD
    assert (server.drawn[-1].seed, server.drawn[-1].steps) == (5, 7)
    assert server.drawn[-1].prompt == "a cat"
    assert not server.drawn[-1].metadata


async def test_so_they_do_from_the_form_of_an_edit(server: SdServer, engine: SdCppEngine) -> None:
    texts = [Part(name, str(value).encode()) for name, value in SENT.items()]
    body, kind = multipart.encode(
        [Part("prompt", b"a cat"), *texts, Part("image", SQUARE, "image.png")]
    )
    sink = await ask(engine, job("tiny", EDITS, content_type=kind), body)
    assert sink.status == 200, sink.body
    assert told(server) == TOLD


async def test_nothing_of_it_is_sent_where_nothing_is_asked(
    server: SdServer, engine: SdCppEngine
) -> None:
    assert (await draw(engine, negative_prompt="", steps=None)).status == 200
    assert told(server) == {}


async def test_its_tag_is_taken_out_of_the_negative_prompt_too(
    server: SdServer, engine: SdCppEngine
) -> None:
    assert (await draw(engine, negative_prompt=f"x{EVIL}")).status == 200
    assert told(server) == {"negative_prompt": "x"}
    assert server.drawn[-1].loras == []


BAD: list[tuple[str, Any]] = [
    ("steps", 0),
    ("steps", 101),
    ("steps", 2.5),
    ("steps", True),
    ("steps", "many"),
    ("cfg_scale", "nan"),
    ("cfg_scale", [1]),
    ("sampler", "eulr"),
    ("sampler_name", {"a": 1}),
    ("scheduler", "karas"),
    ("negative_prompt", 5),
    ("denoising_strength", 1.5),
]


async def test_a_bad_one_is_refused_by_name(
    subtests: pytest.Subtests, server: SdServer, engine: SdCppEngine
) -> None:
    """sd-server would take its default in silence."""
    for field, value in BAD:
        with subtests.test(f"{field!r:.60} {value!r:.60}"):
            sink = await draw(engine, **{field: value})
            assert (sink.status, sink.error["param"]) == (400, field)
            assert server.drawn == []


async def test_they_are_on_its_card(server: SdServer) -> None:
    async with serving(server) as made:
        (model,) = (await made.discover()).models
    assert {"negative_prompt", "steps", "sampler"} < (names_at(model.knows, "images") or set())
