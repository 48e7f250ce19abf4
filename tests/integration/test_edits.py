"""Forms through the fabric, written in every way that clients write them, to an engine that takes
what it gets."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aiohttp import web

from schemas import multipart
from schemas.multipart import Part
from tests.doubles.base import document
from tests.fabric import Fabric
from tests.integration.one_endpoint import OneEndpointServer, client, fabric_with
from tests.integration.uploads import Answer
from tests.unit.ingress.request.web_server import png

EDIT = "/v1/images/edits"
PNG = png(64, 64)

pytestmark = pytest.mark.asyncio(loop_scope="module")


class EditServer(OneEndpointServer):
    """An engine with OpenAI's API that edits pictures, and has a file of its own, ``markup``."""

    model, path = "edits", EDIT

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[Part] = []

    async def _run(self, request: web.Request) -> web.Response:
        kind = request.headers["Content-Type"]
        if kind == "application/json":
            return document({"error": {"message": "no form", "param": "image"}}, 400)
        assert kind.startswith("multipart/form-data; boundary=")
        self.parts = multipart.parse(await request.read(), kind)
        return document({"created": 1, "data": [{"b64_json": "AA=="}]})


Setup = tuple[Fabric, EditServer]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def editing(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Setup]:
    server = EditServer()
    async with fabric_with(server, tmp_path_factory.mktemp("fabric")) as made:
        yield made, server


async def post(made: Fabric, body: bytes, kind: str) -> Answer:
    headers = {**made.headers, "Content-Type": kind}
    async with made.session.post(made.url + EDIT, data=body, headers=headers) as answer:
        return Answer(answer.status, answer.headers, await answer.read())


async def test_files_that_the_api_does_not_name_reach_the_engine(editing: Setup) -> None:
    made, server = editing
    async with client(made) as sdk:
        await sdk.images.edit(
            model="edits",
            image=[("a.png", PNG), ("b.png", PNG)],
            prompt="red",
            extra_body={"strength": 0.5},
            extra_query={},
        )
    assert [part.name for part in server.parts].count("image[]") == 2
    sent = [Part("image", PNG, "a.png"), Part("markup", PNG, "m.png"), Part("markup", b"\xff", "n")]
    sent += [Part("prompt", b"red"), Part("model", b"edits")]
    assert (await post(made, *multipart.encode(sent))).status == 200
    assert server.parts == sent
    wrong = [*sent[:3], Part("prompt", b"red", "p.txt"), sent[4]]
    assert (await post(made, *multipart.encode(wrong))).told == (400, "invalid_request", "prompt")


IMAGE = [
    ("multipart/form-data; boundary=b", 'form-data; name="image"; filename="a.png"'),
    ("Multipart/Form-Data; Boundary=b", "Form-Data; Name=image; FileName=a.png"),
    ('multipart/form-data;\tcharset=utf-8;\tboundary="b"', "form-data; name=image; filename=a.png"),
    ("MULTIPART/FORM-DATA; boundary=b", "form-data; name=image; filename*=UTF-8''a%2Epng"),
]


@pytest.mark.parametrize(("kind", "disposition"), IMAGE)
@pytest.mark.parametrize("typed", ["", "\r\nContent-Type: IMAGE/PNG"])
async def test_they_may_be_written_in_any_way(
    editing: Setup, kind: str, disposition: str, typed: str
) -> None:
    made, server = editing
    texts = {"prompt": "red", "model": "edits", "size": "64x64"}
    body = b"".join(
        f'--b\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'.encode()
        for name, text in texts.items()
    )
    head = f"--b\r\nContent-Disposition: {disposition}{typed}\r\n\r\n".encode()
    answer = await post(made, body + head + PNG + b"\r\n--b--\r\n", kind)
    assert answer.status == 200, answer.body
    found = {part.name: part for part in server.parts}
    assert found.keys() == texts.keys() | {"image"}
    assert found["image"].filename == "a.png"
    assert found["image"].content == PNG
