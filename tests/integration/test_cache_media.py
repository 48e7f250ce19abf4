"""Kept answers of engines that hear and draw: by the bytes of the upload, and by the seed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from deploy.nats import broker as brokers
from tests.doubles.sdserver.server import SdServer
from tests.doubles.whisper.server import whisper_sim
from tests.fabric import fabric
from tests.integration.uploads import Answer, MediaSetup, Value, form
from workers.engines.whisper.engine import tone

pytestmark = pytest.mark.asyncio(loop_scope="module")

HEAR, DRAW = "/v1/audio/transcriptions", "/v1/images/generations"
ON = {"x-headrace-cache": "on"}
ENGINES = (
    '[[engines]]\nname = "whisper"\nkind = "whisper"\nurl = "{}"\nmodels = ["tiny.en"]\n'
    'digest = "w1"\n[[engines]]\nname = "sd"\nkind = "sdcpp"\nurl = "{}"\nmodels = ["flux"]\n'
    'digest = "s1"\n'
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def setup(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MediaSetup]:
    home = tmp_path_factory.mktemp("fabric")
    with brokers.start(home / "broker", 0, 0) as broker:
        async with whisper_sim() as whisper, SdServer() as sdserver, fabric(broker, home) as made:
            await made.ingress()
            await made.crew(ENGINES.format(whisper.url, sdserver.url))
            await made.served("flux", "tiny.en")
            yield MediaSetup(made, whisper, sdserver, made.url)


async def hear(setup: MediaSetup, **fields: Value) -> Answer:
    body, content_type = form(model="tiny.en", **fields)
    return await setup.post(HEAR, body, content_type, ON)


def result(answer: Answer) -> str:
    assert answer.status == 200, answer.body[:500]
    return answer.headers["x-headrace-cache"]


async def test_the_same_recording_is_heard_once(setup: MediaSetup) -> None:
    jobs = len(setup.whisper.jobs)
    first = await hear(setup, file=tone())
    again = await hear(setup, file=tone())
    assert [result(first), result(again)] == ["miss", "hit"]
    assert again.body == first.body
    assert len(setup.whisper.jobs) == jobs + 1


async def test_what_is_heard_otherwise_is_heard_anew(setup: MediaSetup) -> None:
    await hear(setup, file=tone())
    others: list[dict[str, Value]] = [
        {"file": tone() + b"\0\0"},
        {"file": tone(), "response_format": "verbose_json"},
        {"file": tone(), "prompt": "a"},
        {"file": tone(), "stream": "true"},
    ]
    for fields in others:
        assert result(await hear(setup, **fields)) == "miss", fields
    assert result(await hear(setup, file=tone(), temperature="0.5")) == "bypass"


async def test_a_picture_with_a_seed_is_drawn_once(setup: MediaSetup) -> None:
    body = {"model": "flux", "prompt": "a cat", "size": "64x64"}
    found = [await setup.post(DRAW, {**body, "seed": 7}, headers=ON) for _ in range(2)]
    assert [result(answer) for answer in found] == ["miss", "hit"]
    assert found[0].body == found[1].body
    assert result(await setup.post(DRAW, {**body, "seed": 8}, headers=ON)) == "miss"
    assert result(await setup.post(DRAW, body, headers=ON)) == "bypass"


async def test_a_picture_by_address_has_one_of_its_own_each_time(setup: MediaSetup) -> None:
    body = {"model": "flux", "prompt": "a dog", "size": "64x64", "response_format": "url"}
    found = [await setup.post(DRAW, {**body, "seed": 7}, headers=ON) for _ in range(2)]
    assert [result(answer) for answer in found] == ["miss", "hit"]
    seen = [await setup.look(answer.json["data"][0]["url"]) for answer in found]
    assert [each.status for each in seen] == [200, 200]
    assert seen[0].body == seen[1].body
