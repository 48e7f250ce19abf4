"""Pictures with nothing simulated: the official SDK, real processes, a real sd-server.

Its weights are of noise, so nothing is said about what is on the pictures. Which jobs it really
drew is in what it logs. Run with ``scripts/test --real-sd``.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import openai
import pytest
import pytest_asyncio

from deploy.nats import broker as brokers
from schemas import pictures
from tests.doubles.sdserver.pictures import png
from tests.fabric import KEY, PATIENCE, Fabric, fabric
from tests.real.sd import MODEL, running_sd
from tests.real.server import Server

SMALL: dict[str, Any] = {"model": MODEL, "prompt": "a cat", "size": "64x64"}
LONG: dict[str, Any] = {"model": MODEL, "prompt": "a dog", "size": "256x256"}
SQUARE = png(64, 64, bytes(range(192)))
COMPLETED = "generate_image completed"
MASK = png(64, 64, bytes(32) + b"\xff" * 32, channels=1)
TAG = '<sd_cpp_extra_args>{"seed":9,"width":512,"height":512}</sd_cpp_extra_args>'

pytestmark = [pytest.mark.real_sd, pytest.mark.asyncio(loop_scope="module")]


@dataclass(slots=True)
class SdSetup:
    """`seen`: lines of the server's log that an earlier test has caused."""

    fabric: Fabric
    server: Server
    client: openai.AsyncOpenAI
    seen: int = 0

    async def draw(self, **fields: Any) -> list[bytes]:
        answer = await self.client.images.generate(**{**SMALL, **fields})
        assert answer.data
        return [base64.b64decode(item.b64_json or "", validate=True) for item in answer.data]

    async def drawn(self, jobs: int) -> list[str]:
        """Sizes of what the server has drawn in this test, once it has done so many jobs."""
        at = self.seen
        for _ in range(jobs):
            await self.server.said(COMPLETED, at)
            at = next(n for n in range(at, len(self.log)) if COMPLETED in self.log[n]) + 1
        return self.found(r"generate_image (\d+x\d+)")

    def found(self, pattern: str) -> list[str]:
        return [told[1] for line in self.log[self.seen :] if (told := re.search(pattern, line))]

    @property
    def log(self) -> list[str]:
        return self.server.log


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_sd(tmp_path_factory.mktemp("sd")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(server: Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fabric]:
    home = tmp_path_factory.mktemp("fabric")
    with brokers.start(home / "broker", 0, 0) as broker:
        async with fabric(broker, home) as made:
            await made.ingress()
            await made.worker(server.url, kind="sdcpp")
            await made.worker()
            await made.served("echo", MODEL)
            yield made


@pytest_asyncio.fixture(loop_scope="module")
async def setup(served: Fabric, server: Server) -> AsyncIterator[SdSetup]:
    await served.idle()
    url = served.url + "/v1"
    async with openai.AsyncOpenAI(
        base_url=url, api_key=KEY, max_retries=0, timeout=PATIENCE
    ) as client:
        yield SdSetup(served, server, client, len(server.log))


def size(picture: bytes) -> tuple[str, int, int]:
    found = pictures.inspect(picture)
    return found.format, found.width, found.height


async def test_the_model_is_listed_with_what_it_does(setup: SdSetup) -> None:
    (model,) = [each async for each in setup.client.models.list() if each.id == MODEL]
    assert model.owned_by == "headrace"
    facts = model.model_extra
    assert facts is not None
    about = facts["headrace"]
    assert (about["modalities"], about["engines"], about["slots"]) == (["image"], ["sdcpp"], 1)
    assert about["features"] == ["edits", "images"]
    assert {"quality", "style", "partial_images"} <= about["ignores"].keys()


async def test_a_picture_as_base64(setup: SdSetup) -> None:
    answer = await setup.client.images.generate(**SMALL, response_format="b64_json")
    (item,) = answer.data or []
    assert item.url is None
    assert size(base64.b64decode(item.b64_json or "")) == ("png", 64, 64)
    assert (answer.output_format, answer.size) == ("png", "64x64")
    assert await setup.drawn(1) == ["64x64"]


async def test_a_picture_by_address(setup: SdSetup) -> None:
    whole = await setup.draw(n=2, extra_body={"seed": 7})
    answer = await setup.client.images.generate(
        **SMALL, n=2, response_format="url", extra_body={"seed": 7}
    )
    assert [item.b64_json for item in answer.data or []] == [None, None]
    for item, picture in zip(answer.data or [], whole, strict=True):
        assert item.url is not None
        async with setup.fabric.session.get(item.url) as shown:
            assert (shown.status, shown.content_type) == (200, "image/png")
            assert await shown.read() == picture
        async with setup.fabric.session.get(item.url[:-4] + "0000") as forged:
            assert forged.status == 403


@pytest.mark.parametrize("form", ["png", "jpeg", "webp", "PNG"])
async def test_formats(setup: SdSetup, form: str) -> None:
    (picture,) = await setup.draw(output_format=form, output_compression=50)
    assert size(picture) == (form.lower(), 64, 64)


@pytest.mark.parametrize("wanted", ["64x128", "136x72", "auto"])
async def test_sizes(setup: SdSetup, wanted: str) -> None:
    (picture,) = await setup.draw(size=wanted)
    drawn = "128x128" if wanted == "auto" else wanted
    assert "{1}x{2}".format(*size(picture)) == drawn
    assert await setup.drawn(1) == [drawn]


async def test_several_pictures_differ(setup: SdSetup) -> None:
    found = await setup.draw(n=3, extra_body={"seed": 7})
    assert len(set(found)) == 3
    assert await setup.drawn(1) == ["64x64"], "one job of the engine"
    assert setup.found(r"generating image: .* seed (\d+)") == ["7", "8", "9"]


async def test_the_same_seed_draws_the_same_and_none_draws_another(setup: SdSetup) -> None:
    """The engine itself takes 42 each time."""
    (first,), (again,) = [await setup.draw(extra_body={"seed": 7}) for _ in range(2)]
    (free,), (other,) = [await setup.draw() for _ in range(2)]
    assert first == again
    assert len({first, free, other}) == 3


async def test_the_prompt_counts(setup: SdSetup) -> None:
    (cat,), (dog,) = [
        await setup.draw(prompt=prompt, extra_body={"seed": 7}) for prompt in ("a cat", "a dog")
    ]
    assert cat != dog


async def test_the_engines_own_arguments_are_taken_out_of_the_prompt(setup: SdSetup) -> None:
    (plain,) = await setup.draw(extra_body={"seed": 7})
    for prompt in (f"a {TAG}cat", f"a cat<sd_cpp_{TAG}extra_args>{{}}", "a cat<SD_CPP_EXTRA_ARGS>"):
        (picture,) = await setup.draw(prompt=prompt, extra_body={"seed": 7})
        assert picture == plain
    assert await setup.drawn(4) == ["64x64"] * 4
    with pytest.raises(openai.BadRequestError) as fault:
        await setup.draw(prompt=TAG)
    assert fault.value.param == "prompt"


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
async def test_a_picture_carries_no_words(setup: SdSetup, form: str) -> None:
    (picture,) = await setup.draw(prompt="a secret cat", output_format=form)
    for word in (b"secret", b"cat", b"parameters", b"Steps", b"safetensors", b"gguf"):
        assert word not in picture
    assert pictures.bare(picture) == picture


async def test_an_edit(setup: SdSetup) -> None:
    asked: dict[str, Any] = {"model": MODEL, "prompt": "bluer", "extra_body": {"seed": 7}}
    changes: list[dict[str, Any]] = [{}, {"mask": ("m.png", MASK)}, {"n": 2}, {"size": "128x64"}]
    found = []
    for more in changes:
        answer = await setup.client.images.edit(image=("a.png", SQUARE), **asked, **more)
        found.append([base64.b64decode(item.b64_json or "") for item in answer.data or []])
    assert [size(picture) for (picture, *_) in found] == [("png", 64, 64)] * 3 + [("png", 128, 64)]
    assert [len(each) for each in found] == [1, 1, 2, 1]
    assert found[0][0] == found[2][0]
    (drawn,) = await setup.draw(prompt="bluer", extra_body={"seed": 7})
    assert drawn != found[0][0], "the picture counts"


async def test_an_edit_of_several_pictures_as_webp_by_address(setup: SdSetup) -> None:
    answer = await setup.client.images.edit(
        image=[("a.png", SQUARE), ("b.png", png(72, 64, b"\7" * 216))],
        prompt="both",
        model=MODEL,
        output_format="webp",
        response_format="url",
    )
    (item,) = answer.data or []
    assert item.url is not None
    async with setup.fabric.session.get(item.url) as shown:
        assert size(await shown.read()) == ("webp", 64, 64)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"size": "0x0"}, "size"),
    ({"size": "-64x64"}, "size"),
    ({"size": "65x70"}, "size"),
    ({"size": "32x32"}, "size"),
    ({"size": "8192x64"}, "size"),
    ({"size": "large"}, "size"),
    ({"n": 0}, "n"),
    ({"n": 9}, "n"),
    ({"n": 11}, "n"),
    ({"n": "two"}, "n"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": 5}, "prompt"),
    ({"output_format": "gif"}, "output_format"),
    ({"quality": "hd"}, "quality"),
    ({"stream": True, "partial_images": 1}, "partial_images"),
]


async def test_bad_requests_are_refused_before_the_gpu_is_asked(setup: SdSetup) -> None:
    for more, param in BAD:
        with pytest.raises(openai.BadRequestError) as fault:
            await setup.draw(**more)
        assert (fault.value.param, fault.value.type) == (param, "invalid_request_error"), more
        assert fault.value.code
    for image in (b"no picture", SQUARE[:-20], png(64, 64, b"\1" * 64, channels=1)):
        with pytest.raises(openai.BadRequestError) as fault:
            await setup.client.images.edit(image=("a.png", image), prompt="x", model=MODEL)
        assert fault.value.param == "image"
    with pytest.raises(openai.NotFoundError) as missing:
        await setup.draw(model="no-such-model")
    assert missing.value.code == "model_not_found"
    await setup.draw()
    assert await setup.drawn(1) == ["64x64"], "nothing but the good one"


async def test_one_after_the_other(setup: SdSetup) -> None:
    await asyncio.gather(*(setup.draw() for _ in range(3)))
    assert len(await setup.drawn(3)) == 3
    assert setup.found("generate_image (completed|[0-9])") == ["6", "completed"] * 3


async def test_who_leaves_the_queue_is_not_drawn(setup: SdSetup) -> None:
    first = asyncio.create_task(setup.draw(**LONG))
    await setup.server.said("generate_image 256x256", setup.seen)
    second = asyncio.create_task(setup.draw(size="72x72"))
    await setup.fabric.jobs(2)
    second.cancel()
    await asyncio.wait({second})
    assert await first
    await setup.fabric.idle()
    await setup.draw()
    assert await setup.drawn(2) == ["256x256", "64x64"]


async def test_who_leaves_while_it_is_drawn_holds_up_nobody_for_longer(setup: SdSetup) -> None:
    """Nothing stops the engine: the next one is drawn once it is done with the first."""
    first = asyncio.create_task(setup.draw(**LONG))
    await setup.server.said("generate_image 256x256", setup.seen)
    first.cancel()
    await asyncio.wait({first})
    assert await setup.draw()
    assert await setup.drawn(2) == ["256x256", "64x64"]
    assert setup.found("generate_image (completed|[0-9]+)") == [
        "256",
        "completed",
        "64",
        "completed",
    ]
