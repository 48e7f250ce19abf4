"""Pictures through the fabric: real processes, a simulated sd-server."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.integration.uploads import Answer, MediaSetup, form
from tests.unit.ingress.request.web_server import png

GENERATE = "/v1/images/generations"
EDIT = "/v1/images/edits"
LENIENT = {"x-headrace-lenient": "true"}

pytestmark = pytest.mark.asyncio(loop_scope="module")


def pictures(answer: Answer) -> list[bytes]:
    assert answer.status == 200, answer.body[:500]
    return [base64.b64decode(item["b64_json"], validate=True) for item in answer.json["data"]]


async def test_pictures_as_base64(setup: MediaSetup) -> None:
    asked = {"prompt": "a cat", "size": "64x64", "n": 2, "seed": 7}
    for path in (GENERATE, "/images/generations"):
        for more in ({}, {"model": "flux", "response_format": "b64_json"}):
            found = pictures(await setup.post(path, {**asked, **more}))
            assert [picture[:4] for picture in found] == [b"\x89PNG"] * 2
    assert {draw.prompt for draw in setup.sdserver.drawn} == {"a cat"}


async def test_pictures_by_url(setup: MediaSetup) -> None:
    asked = {"prompt": "a cat", "size": "64x64", "n": 2, "seed": 7, "output_format": "webp"}
    whole = pictures(await setup.post(GENERATE, asked))
    answer = await setup.post(GENERATE, {**asked, "response_format": "url"})
    assert answer.status == 200
    assert all(item.keys() == {"url"} for item in answer.json["data"])
    urls = [item["url"] for item in answer.json["data"]]
    assert all(url.startswith(f"{setup.url}/v1/images/files/") for url in urls)
    for url, picture in zip(urls, whole, strict=True):
        shown = await setup.look(url)
        assert (shown.status, shown.body) == (200, picture)
        assert shown.headers["content-type"] == "image/webp"
        assert shown.headers["cache-control"].startswith("private, max-age=")
        assert shown.headers["x-content-type-options"] == "nosniff"
        assert (await setup.look(url.replace("/v1/", "/"))).body == picture


async def test_clients_of_an_old_name_expect_addresses(setup: MediaSetup) -> None:
    other = await setup.fabric.worker(setup.sdserver.url, kind="sdcpp", models=["dall-e-3"])
    await setup.fabric.served("dall-e-3", "echo", "flux", "tiny.en")
    asked = {"prompt": "a cat", "size": "64x64", "model": "dall-e-3"}
    assert "url" in (await setup.post(GENERATE, asked)).json["data"][0]
    assert pictures(await setup.post(GENERATE, {**asked, "response_format": "b64_json"}))
    answer = await setup.post(GENERATE, {"prompt": "a cat", "size": "64x64"})
    assert answer.told == (400, "invalid_request", "model")
    await other.stop()
    await setup.fabric.served("echo", "flux", "tiny.en")


async def test_an_address_cannot_be_changed(setup: MediaSetup) -> None:
    asked = {"prompt": "a cat", "size": "64x64", "response_format": "url"}
    (item,) = (await setup.post(GENERATE, asked)).json["data"]
    url = item["url"]
    place, _, signature = url.rpartition("=")
    for other in (
        url[:-1] + ("0" if url[-1] != "0" else "1"),
        url.replace("expires=", "expires=9"),
        url.partition("?")[0],
        place + "=" + signature.swapcase(),
        url.replace("files/", "files/x"),
        f"{setup.url}/v1/images/files/a?expires=é&signature=%ff%00",
    ):
        assert (await setup.look(other)).told == (403, "forbidden", None), other
    for other in (f"{setup.url}/v1/images/files/", f"{setup.url}/v1/images/files/a/b"):
        assert (await setup.look(other)).told[:2] == (404, "not_found")
    async with setup.fabric.session.post(url) as answer:
        assert answer.status == 405


async def test_an_address_begins_as_the_client_or_the_config_says(setup: MediaSetup) -> None:
    asked = {"prompt": "a cat", "size": "64x64", "response_format": "url"}
    for host, begins in (
        ("ai.example:8443", "http://ai.example:8443/v1/images/files/"),
        ("[::1]:80", "http://[::1]:80/v1/images/files/"),
        ("evil.example/<script>", f"{setup.url}/v1/images/files/"),
    ):
        answer = await setup.post(GENERATE, asked, headers={"Host": host})
        assert answer.json["data"][0]["url"].startswith(begins)
    other = await setup.fabric.ingress({"ingress.public_url": "https://ai.example/fabric/"})
    second = MediaSetup(setup.fabric, setup.whisper, setup.sdserver, other.url)
    await setup.fabric.served("echo", "flux", "tiny.en", url=other.url)
    url = (await second.post(GENERATE, {**asked, "model": "flux"})).json["data"][0]["url"]
    assert url.startswith("https://ai.example/fabric/v1/images/files/")
    path = url.removeprefix("https://ai.example/fabric")
    assert (await second.look(other.url + path)).status == 200
    assert (await setup.look(setup.url + path)).status == 403


async def test_edits(setup: MediaSetup) -> None:
    sizes = [png(64, 64), png(72, 64)]
    answer = await setup.upload(EDIT, image__=sizes, prompt="bluer", n="2", mask=png(64, 64))
    assert len(pictures(answer)) == 2
    assert (setup.sdserver.drawn[0].images, setup.sdserver.drawn[0].prompt) == (2, "bluer")
    answer = await setup.upload(EDIT, image=sizes[0], prompt="bluer", response_format="url")
    (item,) = answer.json["data"]
    assert (await setup.look(item["url"])).body[:4] == b"\x89PNG"
    for nothing in ({"stream": "false"}, {"input_fidelity": "low"}, {"partial_images": "0"}):
        assert pictures(await setup.upload(EDIT, image=sizes[0], prompt="bluer", **nothing))


def shown(content: bytes) -> dict[str, str]:
    return {"image_url": f"data:image/png;base64,{base64.b64encode(content).decode()}"}


async def test_edits_as_json_are_those_of_the_form(setup: MediaSetup) -> None:
    sizes = [png(64, 64), png(72, 64)]
    asked = {"prompt": "bluer", "n": 2, "seed": 7, "output_format": "jpeg", "user": None}
    told = {"prompt": "bluer", "n": "2", "seed": "7", "output_format": "jpeg"}
    formed = await setup.upload(EDIT, image__=sizes, mask=png(64, 64), **told)
    shapes = {"images": [shown(each) for each in sizes], "mask": shown(png(64, 64))}
    answer = await setup.post(EDIT, {**asked, **shapes})
    assert pictures(answer) == pictures(formed)
    first, second = setup.sdserver.drawn
    assert first == second
    asked = {"prompt": "bluer", "stream": True, "images": [shown(sizes[0])]}
    streamed = await setup.post(EDIT, asked)
    assert [each["type"] for each in streamed.events] == ["image_edit.completed"]
    bare = [{"image_url": base64.b64encode(sizes[0]).decode()}]
    answer = await setup.post(EDIT, {"prompt": "a", "response_format": "url", "images": bare})
    assert (await setup.look(answer.json["data"][0]["url"])).body[:4] == b"\x89PNG"


async def test_bad_edits_as_json(setup: MediaSetup) -> None:
    one = shown(png(64, 64))
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "images"),
        ({"image": one}, "images"),
        ({"images": []}, "images"),
        ({"images": one}, "images"),
        ({"images": [one] * 17}, "images"),
        ({"images": ["text"]}, "images[0]"),
        ({"images": [{}]}, "images[0].image_url"),
        ({"images": [one, {"file_id": "file-1"}]}, "images[1].file_id"),
        ({"images": [{"image_url": "nothing"}]}, "images[0].image_url"),
        ({"images": [{"image_url": "data:text/plain;base64,AAAA"}]}, "images[0].image_url"),
        ({"images": [shown(b"no picture")]}, "images[0].image_url"),
        ({"images": [{"image_url": "http://127.0.0.1:1/a.png"}]}, "images[0].image_url"),
        ({"images": [shown(png(64, 64)[:-20])]}, "image"),
        ({"images": [one], "mask": shown(b"none")}, "mask.image_url"),
        ({"images": [one], "n": 11}, "n"),
        ({"images": [one], "prompt": ""}, "prompt"),
        ({"images": [one], "quality": "hd"}, "quality"),
        ({"images": [one], "metadata": {"a": 1}}, "metadata"),
        ({"images": [one], "image": "x"}, "image"),
        ({"images": [one], "mask[]": "x"}, "mask[]"),
        ({"images": [one], "": "x"}, ""),
    ]
    for fields, param in cases:
        answer = await setup.post(EDIT, {"prompt": "bluer", **fields})
        assert answer.status == 400, fields.keys()
        assert answer.error["param"] == param, (answer.error, fields.keys())
    assert setup.sdserver.drawn == []


async def test_a_file_that_is_not_known_is_told_of(setup: MediaSetup) -> None:
    answer = await setup.upload(EDIT, image=png(64, 64), prompt="a cat", markup=b"\xff")
    assert answer.status == 200
    assert "'markup' is known neither" in answer.headers["x-headrace-warning"]


async def test_pictures_as_events(setup: MediaSetup) -> None:
    asked = {"prompt": "a cat", "size": "64x64", "n": 2, "seed": 7}
    whole = [item["b64_json"] for item in (await setup.post(GENERATE, asked)).json["data"]]
    answer = await setup.post(GENERATE, {**asked, "stream": True, "partial_images": 0})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert [each["type"] for each in answer.events] == ["image_generation.completed"] * 2
    assert [each["b64_json"] for each in answer.events] == whole
    assert {each["size"] for each in answer.events} == {"64x64"}
    for word in ("true", "True", "1"):
        edited = await setup.upload(EDIT, image=png(64, 64), prompt="bluer", stream=word)
        assert [each["type"] for each in edited.events] == ["image_edit.completed"]


BAD_REQUESTS: list[tuple[dict[str, Any], str]] = [
    ({}, "prompt"),
    ({"prompt": 5}, "prompt"),
    ({"prompt": "  "}, "prompt"),
    ({"prompt": "a" * 32_001}, "prompt"),
    ({"prompt": "a", "n": 0}, "n"),
    ({"prompt": "a", "n": 11}, "n"),
    ({"prompt": "a", "n": "2"}, "n"),
    ({"prompt": "a", "n": 9}, "n"),
    ({"prompt": "a", "size": "0x0"}, "size"),
    ({"prompt": "a", "size": "-64x64"}, "size"),
    ({"prompt": "a", "size": "large"}, "size"),
    ({"prompt": "a", "size": "65x70"}, "size"),
    ({"prompt": "a", "size": "99999x64"}, "size"),
    ({"prompt": "a", "size": 512}, "size"),
    ({"prompt": "a", "output_format": "gif"}, "output_format"),
    ({"prompt": "a", "output_compression": 101}, "output_compression"),
    ({"prompt": "a", "response_format": "file"}, "response_format"),
    ({"prompt": "a", "response_format": "url", "stream": True}, "response_format"),
    ({"prompt": "a", "quality": "best"}, "quality"),
    ({"prompt": "a", "quality": "hd"}, "quality"),
    ({"prompt": "a", "style": "natural"}, "style"),
    ({"prompt": "a", "background": "transparent"}, "background"),
    ({"prompt": "a", "stream": True, "partial_images": 1}, "partial_images"),
    ({"prompt": "a", "partial_images": 4}, "partial_images"),
    ({"prompt": "a", "seed": 2**70}, "seed"),
    ({"prompt": "a", "model": ""}, "model"),
    ({"prompt": "a", "model": "tiny.en"}, "model"),
]


async def test_bad_requests(setup: MediaSetup) -> None:
    for fields, param in BAD_REQUESTS:
        answer = await setup.post(GENERATE, fields)
        assert answer.status == 400, fields
        assert answer.error["param"] == param, (fields, answer.error)
    for raw in (b"", b"{", b"[]", b'"a"', b'{"prompt":"\xff"}', b'{"prompt":"a","n":NaN}'):
        assert (await setup.post(GENERATE, raw)).told[0] == 400, raw
    assert (await setup.post(GENERATE, *form(prompt="a"))).told[0] == 400
    assert setup.sdserver.drawn == []


async def test_bad_edits(setup: MediaSetup) -> None:
    picture, text = png(64, 64), "bluer"
    cases: list[tuple[dict[str, Any], str]] = [
        ({"prompt": text}, "image"),
        ({"image": picture}, "prompt"),
        ({"image": "text", "prompt": text}, "image"),
        ({"image": b"", "prompt": text}, "image"),
        ({"image": b"no picture", "prompt": text}, "image"),
        ({"image": png(60_000, 60_000), "prompt": text}, "image"),
        ({"image": picture[:-20], "prompt": text}, "image"),
        ({"image__": [picture] * 17, "prompt": text}, "image"),
        ({"image": picture, "mask": b"none", "prompt": text}, "mask"),
        ({"image": picture, "mask": [picture, picture], "prompt": text}, "mask"),
        ({"image": picture, "prompt": b"upload"}, "prompt"),
        ({"image": picture, "prompt": [text, text]}, "prompt"),
        ({"image": picture, "prompt": text, "n": "two"}, "n"),
        ({"image": picture, "prompt": text, "n": "0"}, "n"),
        ({"image": picture, "prompt": text, "n": "1.5"}, "n"),
        ({"image": picture, "prompt": text, "size": "0x0"}, "size"),
    ]
    for fields, param in cases:
        answer = await setup.upload(EDIT, **fields)
        assert answer.status == 400, fields.keys()
        assert answer.error["param"] == param, (answer.error, fields.keys())
    assert (await setup.post(EDIT, {"prompt": "a"})).told[0] == 400
    assert setup.sdserver.drawn == []


async def test_variations_are_no_promise(setup: MediaSetup) -> None:
    answer = await setup.upload("/v1/images/variations", image=png(64, 64))
    assert answer.told == (400, "unsupported_endpoint", None)
    assert EDIT in answer.error["message"]


async def test_a_lenient_client_is_warned(setup: MediaSetup) -> None:
    asked = {"prompt": "a", "size": "64x64", "quality": "hd", "partial_images": 1}
    answer = await setup.post(GENERATE, asked, headers=LENIENT)
    assert len(pictures(answer)) == 1
    assert "quality has no effect" in answer.headers["x-headrace-warning"]
    assert "partial_images has no effect" in answer.headers["x-headrace-warning"]
