"""The simulated sd-server beside the real one: both are asked the same, and answer alike.

Run with ``scripts/test --real-sd``.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from schemas import multipart, pictures
from schemas.multipart import Part
from tests.doubles.likeness import agree
from tests.doubles.sdserver.pictures import png
from tests.doubles.sdserver.server import SdServer
from tests.real.sd import running_sd
from tests.real.server import Server

GENERATE, EDIT, NATIVE = "/v1/images/generations", "/v1/images/edits", "/sdcpp/v1/img_gen"
SQUARE = png(64, 64, bytes(range(192)))
GREY = png(64, 64, b"\1" * 64, channels=1)
TAG = "a<sd_cpp_extra_args>{}</sd_cpp_extra_args>"
JSON = "application/json"

pytestmark = [pytest.mark.real_sd, pytest.mark.asyncio(loop_scope="module")]


@dataclass(frozen=True, slots=True)
class Answered:
    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def drawn(self) -> list[tuple[str, int, int, bool]]:
        """Format, size, and whether there are words in it, of each picture."""
        if "b64_json" not in self.text:
            return []
        document = json.loads(self.text)
        found = (document.get("result") or {}).get("images") or document.get("data") or ()
        return [_seen(base64.b64decode(each["b64_json"])) for each in found]


def _seen(picture: bytes) -> tuple[str, int, int, bool]:
    found = pictures.inspect(picture)
    return found.format, found.width, found.height, pictures.bare(picture) != picture


@dataclass(slots=True)
class RealAndDouble:
    urls: tuple[str, str]
    """Of the real one and of the simulated one."""
    session: aiohttp.ClientSession

    async def ask(self, path: str, body: bytes = b"", content_type: str = JSON) -> list[Answered]:
        method = "POST" if body or path.startswith("/v1/images") or "cancel" in path else "GET"
        return [await self.say(url, method, path, body, content_type) for url in self.urls]

    async def say(
        self, url: str, method: str, path: str, body: bytes = b"", content_type: str = JSON
    ) -> Answered:
        headers = {"Content-Type": content_type}
        async with self.session.request(method, url + path, data=body, headers=headers) as answer:
            told = {name.lower(): value for name, value in answer.headers.items()}
            return Answered(answer.status, told, await answer.text())

    async def job(self, url: str, said: Answered, *states: str) -> Answered:
        """The page of a job, once it is in none of the states."""
        while True:
            page = await self.say(url, "GET", json.loads(said.text)["poll_url"])
            if json.loads(page.text)["status"] not in states:
                return page


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_sd(tmp_path_factory.mktemp("sd")) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def sim() -> AsyncIterator[SdServer]:
    async with SdServer() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def both(server: Server, sim: SdServer) -> AsyncIterator[RealAndDouble]:
    async with aiohttp.ClientSession() as session:
        yield RealAndDouble((server.url, sim.url), session)


def alike(real: Answered, simulated: Answered) -> None:
    case = {"status": real.status, "headers": real.headers, "body": real.text}
    agree(case, simulated.status, simulated.headers, simulated.text)
    assert simulated.drawn == real.drawn


NO_PROMPTS: tuple[Any, ...] = ("", 5, None, ["a"], {}, 1.5, True)
GENERATIONS: list[dict[str, Any]] = [
    {},
    *({"n": n} for n in (2, 9, 0, -1, 1.5, None, True, "2", [1])),
    *({"size": size} for size in ("65x70", "64", "64x", "x64", "64x64x64", " 64x72", 64, None)),
    *({"output_format": name} for name in ("PNG", "jpeg", "webp", "gif", "", 5, None)),
    *({"output_compression": number} for number in (0, 500, "x")),
    *({"prompt": prompt} for prompt in NO_PROMPTS),
    {"model": "x", "user": "u", "stream": True, "response_format": "url", "quality": "best"},
    {"prompt": TAG.format('{"seed":7,"width":72,"batch_count":2}')},
    {"prompt": TAG.format('{"seed":"7","width":"x","lora":[]}')},
    {"prompt": TAG.format('{"embed_image_metadata":false}')},
    {"prompt": TAG.format('{"lora":[{"path":"/etc/x"}]}')},
    {"prompt": TAG.format('{"lora":5}')},
    {"prompt": TAG.format("{bad")},
    {"prompt": TAG.format("[]")},
    {"prompt": TAG.format("{}").removeprefix("a")},
]
NATIVES: list[dict[str, Any]] = [
    {},
    *({"batch_count": n} for n in (2, 9, 0, "2")),
    *({"prompt": text} for text in ("", 5, None)),
    *({"output_format": name} for name in ("webp", "gif", 5)),
    *({name: "64"} for name in ("width", "seed", "sample_params")),
    *({name: "no base64"} for name in ("init_image", "mask_image", "ref_images")),
    *({name: None} for name in ("init_image", "mask_image", "ref_images")),
    {"init_image": base64.b64encode(b"nothing").decode()},
    {"init_image": base64.b64encode(SQUARE).decode(), "embed_image_metadata": False},
    {"ref_images": [base64.b64encode(SQUARE).decode()] * 2, "output_compression": 50},
    *({"lora": found} for found in ([], None, 5, ["x"], [{"path": "x"}])),
    {"output_compression": "x"},
]
EDITS: list[dict[str, Any]] = [
    {},
    {"image": b"nothing", "size": "64x64"},
    {"image": GREY, "size": "64x64"},
    {"image": "text"},
    {"image": None},
    {"image": None, "image[]": SQUARE, "mask": GREY},
    {"mask": b"nothing", "size": "64x64"},
    *({"n": n} for n in ("2", "0", "two", "2x", "")),
    *({"size": size} for size in ("72x64", "0x0", "auto")),
    *({"output_format": name} for name in ("jpeg", "webp", "gif", "")),
    *({"prompt": words} for words in (None, "", TAG.format('{"seed":7}'))),
]
NO_JSON = (b"", b'{"prompt":', b"[]", b'"a"', b"5", b"null", b"\xff", b'{"prompt":"\xff"}')


@pytest.mark.parametrize("more", GENERATIONS, ids=json.dumps)
async def test_generations(both: RealAndDouble, more: dict[str, Any]) -> None:
    alike(*await both.ask(GENERATE, json.dumps({"prompt": "a", "size": "64x64", **more}).encode()))


@pytest.mark.parametrize("path", [GENERATE, NATIVE])
@pytest.mark.parametrize("body", NO_JSON)
async def test_what_is_no_json_object(both: RealAndDouble, path: str, body: bytes) -> None:
    real, simulated = [await both.say(url, "POST", path, body) for url in both.urls]
    alike(real, simulated)


@pytest.mark.parametrize("more", EDITS, ids=str)
async def test_edits(both: RealAndDouble, more: dict[str, Any]) -> None:
    fields = {"prompt": "a", "image": SQUARE, **more}
    parts = [
        Part(name, value, "a.png", "image/png")
        if isinstance(value, bytes)
        else Part(name, value.encode())
        for name, value in fields.items()
        if value is not None
    ]
    alike(*await both.ask(EDIT, *multipart.encode(parts)))


@pytest.mark.parametrize("more", NATIVES, ids=str)
async def test_its_own_api(both: RealAndDouble, more: dict[str, Any]) -> None:
    body = {"prompt": "a", "width": 64, "height": 64, **more}
    real, simulated = await both.ask(NATIVE, json.dumps(body).encode())
    alike(real, simulated)
    if real.status == 202:
        working = ("queued", "generating")
        alike(
            await both.job(both.urls[0], real, *working),
            await both.job(both.urls[1], simulated, *working),
        )


@pytest.mark.parametrize(
    "path",
    ["/", "/v1/models", "/health", "/nope", "/sdcpp/v1/jobs/nope", "/sdcpp/v1/jobs/x/cancel"],
)
async def test_other_pages(both: RealAndDouble, path: str) -> None:
    alike(*await both.ask(path))


async def test_capabilities(both: RealAndDouble) -> None:
    real, simulated = [json.loads(said.text) for said in await both.ask("/sdcpp/v1/capabilities")]
    same = ("limits", "features", "output_formats", "supported_modes", "defaults", "current_mode")
    assert {name: real[name] for name in same} == {name: simulated[name] for name in same}
    assert real.keys() == simulated.keys()


async def test_jobs_wait_are_cancelled_and_cannot_be_stopped(
    both: RealAndDouble, sim: SdServer
) -> None:
    """Both tell the same story of a job that runs and of two that wait behind it."""
    sim.may_generate.clear()
    real, simulated = await asyncio.gather(*(story(both, url) for url in both.urls))
    for one, other in zip(real, simulated, strict=True):
        alike(one, other)
    states = [json.loads(said.text).get("status") for said in real]
    assert states[3:] == ["queued"] * 2 + ["cancelled"] * 2 + [None, "generating"]
    assert real[-2].status == 409


async def story(both: RealAndDouble, url: str) -> list[Answered]:
    body = json.dumps({"prompt": "a", "width": 256, "height": 256}).encode()
    running = await both.say(url, "POST", NATIVE, body)
    await both.job(url, running, "queued")
    others = [await both.say(url, "POST", NATIVE, body) for _ in range(2)]
    paths = [json.loads(said.text)["poll_url"] for said in (running, *others)]
    return [
        running,
        *others,
        *[await both.say(url, "GET", path) for path in paths[1:]],
        *[await both.say(url, "POST", path + "/cancel") for path in paths[:0:-1]],
        await both.say(url, "POST", paths[0] + "/cancel"),
        await both.say(url, "GET", paths[0]),
    ]
