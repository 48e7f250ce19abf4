"""stable-diffusion.cpp's server, simulated from its recorded answers and source."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from schemas import multipart, pictures
from schemas.multipart import Part
from tests.doubles.drive import RecordingSink, ask, job
from tests.doubles.sdserver.pictures import jpeg, png, webp
from tests.doubles.sdserver.server import SdServer
from tests.unit.workers.engines.sdcpp.setup import EVIL, JOBS, SQUARE, draw, serving
from workers.engines import KINDS
from workers.engines.sdcpp.engine import EDITS, GENERATIONS, SdCppEngine


async def edit(engine: SdCppEngine, *parts: Part) -> RecordingSink:
    body, content_type = multipart.encode([Part("prompt", b"blue"), *parts])
    return await ask(engine, job("tiny", EDITS, content_type=content_type), body)


def drawn(answer: RecordingSink) -> list[bytes]:
    assert answer.status == 200, answer.body
    return [base64.b64decode(image["b64_json"]) for image in answer.document["data"]]


async def test_what_it_serves_is_asked_of_the_engine(engine: SdCppEngine) -> None:
    offer = await engine.discover()
    (model,) = offer.models

    assert KINDS["sdcpp"] is SdCppEngine
    assert (offer.slots, model.id, model.modalities) == (1, "tiny", ("image",))
    assert model.features == ("images", "edits")
    assert {"quality", "style", "partial_images"} <= {each.field for each in model.ignores}


async def test_an_older_server_tells_no_name(server: SdServer) -> None:
    async with SdServer(native=False) as old, serving(old) as engine:
        (model,) = (await engine.discover()).models
    async with serving(server, models=["mine"]) as engine:
        (named,) = (await engine.discover()).models

    assert model.id == "sd-cpp-local"
    assert named.id == "mine"


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("leaky", [True, False])
@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
async def test_pictures_carry_nothing_but_the_picture(native: bool, leaky: bool, form: str) -> None:
    async with SdServer(native=native, leaky=leaky) as server, serving(server) as engine:
        answer = await draw(engine, "a secret cat", output_format=form, n=2)

    assert len(drawn(answer)) == 2
    for picture in drawn(answer):
        assert pictures.inspect(picture).format == form
        assert pictures.bare(picture) == picture
        assert b"secret" not in picture
    assert answer.document["output_format"] == form
    assert answer.document["size"] == "64x64"
    assert [ask.metadata for ask in server.drawn] == [leaky]


@pytest.mark.parametrize("native", [True, False])
async def test_each_job_has_a_seed_of_its_own_unless_it_names_one(native: bool) -> None:
    async with SdServer(native=native) as server, serving(server) as engine:
        free = [drawn(await draw(engine)) for _ in range(2)]
        fixed = [await draw(engine, seed=7) for _ in range(2)]

    assert free[0] != free[1], "the engine itself takes 42 each time"
    assert drawn(fixed[0]) == drawn(fixed[1])
    assert [answer.document["seed"] for answer in fixed] == [7, 7]
    assert [ask.seed for ask in server.drawn][2:] == [7, 7]


@pytest.mark.parametrize("native", [True, False])
async def test_the_engines_tag_in_a_prompt_is_taken_out(native: bool) -> None:
    async with SdServer(native=native) as server, serving(server) as engine:
        await draw(engine, f"a {EVIL}cat")
        await draw(engine, f"a <sd_cpp_{EVIL}extra_args>{{}}</sd_cpp_extra_args>cat")
        await draw(engine, "a cat<SD_CPP_extra_args >{\n}</ sd_cpp_extra_args>")
        await draw(engine, "a cat<sd_cpp_extra_args>{")

    assert [ask.prompt for ask in server.drawn] == ["a cat", "a", "a cat", "a cat"]
    assert {ask.steps for ask in server.drawn} == {2}
    assert [ask.loras for ask in server.drawn] == [[]] * 4


BAD: list[tuple[dict[str, Any], str]] = [
    ({"prompt": None}, "prompt"),
    ({"prompt": ""}, "prompt"),
    ({"prompt": 5}, "prompt"),
    ({"prompt": EVIL}, "prompt"),
    ({"prompt": "x" * 32_001}, "prompt"),
    ({"size": "0x0"}, "size"),
    ({"size": "-64x64"}, "size"),
    ({"size": "65x70"}, "size"),
    ({"size": "32x64"}, "size"),
    ({"size": "8192x64"}, "size"),
    ({"size": "large"}, "size"),
    ({"size": 64}, "size"),
    ({"n": 0}, "n"),
    ({"n": 9}, "n"),
    ({"n": "two"}, "n"),
    ({"n": True}, "n"),
    ({"output_format": "gif"}, "output_format"),
    ({"output_format": 1}, "output_format"),
    ({"output_compression": 101}, "output_compression"),
    ({"response_format": "file"}, "response_format"),
    ({"seed": -2}, "seed"),
    ({"seed": 2**40}, "seed"),
]


async def test_bad_values_never_reach_the_gpu(
    subtests: pytest.Subtests, server: SdServer, engine: SdCppEngine
) -> None:
    for more, param in BAD:
        with subtests.test(f"{more!r:.60} {param!r:.60}"):
            answer = await draw(engine, **more)

            assert answer.status == 400
            assert answer.error["param"] == param
            assert server.asked(JOBS) == []


@pytest.mark.parametrize("body", [b"", b'{"prompt":', b"[]", b"\xff"])
async def test_what_is_no_json_object_is_refused(engine: SdCppEngine, body: bytes) -> None:
    answer = await ask(engine, job("tiny", GENERATIONS), body)

    assert answer.status == 400
    assert answer.error["code"] == "invalid_request"


@pytest.mark.parametrize(
    "more",
    [
        {"size": "auto"},
        {"size": None},
        {"output_format": "PNG"},
        {"output_format": None, "response_format": "url"},
        {"quality": "auto", "style": "auto", "background": "opaque", "user": "u", "model": "x"},
        {"style": "vivid", "input_fidelity": "low"},
        {"quality": "high", "stream": True, "lenient": True},
    ],
)
async def test_what_is_well_is_drawn(engine: SdCppEngine, more: dict[str, Any]) -> None:
    answer = await draw(engine, **more)
    (picture,) = drawn(answer)

    found = pictures.inspect(picture)
    assert answer.document["size"] == f"{found.width}x{found.height}"
    assert found.width == (128 if "size" in more else 64), "the engine's own default"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("quality", "high"),
        ("style", "natural"),
        ("background", "transparent"),
        ("partial_images", 2),
    ],
)
async def test_what_it_would_pass_over_is_refused(
    engine: SdCppEngine, field: str, value: object
) -> None:
    answer = await draw(engine, **{field: value})

    assert answer.status == 400
    assert (answer.error["code"], answer.error["param"]) == ("unsupported_parameter", field)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("name", ["image", "image[]"])
async def test_an_edit_starts_from_the_picture(native: bool, name: str) -> None:
    async with SdServer(native=native) as server, serving(server) as engine:
        sized = await edit(
            engine,
            Part(name, SQUARE, "a.png", "image/png"),
            Part("mask", png(64, 64, b"\1" * 64, channels=1), "m.png"),
            Part("n", b"2"),
            Part("size", b"128x64"),
            Part("seed", b"5"),
        )
        free = await edit(engine, Part(name, jpeg(60, 70), "a.jpg"))

    assert [ask.images for ask in server.drawn] == [1, 1]
    assert [ask.mask for ask in server.drawn] == [True, False]
    assert (len(drawn(sized)), sized.document["size"], sized.document["seed"]) == (2, "128x64", 5)
    assert free.document["size"] == "64x72", "of the picture, rounded up"


async def test_its_own_api_gets_all_pictures(server: SdServer, engine: SdCppEngine) -> None:
    parts = [Part("image[]", data, "a") for data in (SQUARE, webp(64, 64))]
    answer = await edit(engine, *parts, Part("output_format", b"webp"))

    (sent,) = server.asked(JOBS)
    assert sent["init_image"] == sent["ref_images"][0] == base64.b64encode(SQUARE).decode()
    assert len(sent["ref_images"]) == 2
    assert pictures.inspect(drawn(answer)[0]).format == "webp", "its OpenAI page has no WebP"


BAD_EDITS: list[tuple[list[Part], str]] = [
    ([], "image"),
    ([Part("image", b"notpng", "a.png")], "image"),
    ([Part("image", SQUARE[:-20], "a.png")], "image"),
    ([Part("image", SQUARE[:60] + b"\0" + SQUARE[61:], "a.png")], "image"),
    ([Part("image", b"GIF89a" + b"\0" * 20, "a.gif")], "image"),
    ([Part("image", png(64, 64, b"\1" * 64, channels=1), "grey.png")], "image"),
    ([Part("image", jpeg(64, 64, channels=1), "grey.jpg")], "image"),
    ([Part("image", SQUARE, "a.png"), Part("mask", b"x", "m.png")], "mask"),
    ([Part("image", jpeg(8000, 64), "wide.jpg")], "size"),
    ([Part("image", SQUARE, "a.png"), Part("size", b"0x0")], "size"),
    ([Part("image", SQUARE, "a.png"), Part("n", b"two")], "n"),
    ([Part("image", SQUARE, "a.png"), Part("quality", b"high")], "quality"),
    ([Part("image", SQUARE, "a.png")] * 17, "image"),
]


async def test_bad_pictures_never_reach_the_gpu(
    subtests: pytest.Subtests, server: SdServer, engine: SdCppEngine
) -> None:
    """The engine leaves out what it cannot read and draws something else, for 14 seconds."""
    for parts, param in BAD_EDITS:
        with subtests.test(f"{parts!r:.60} {param!r:.60}"):
            answer = await edit(engine, *parts)

            assert answer.status == 400
            assert answer.error["param"] == param
            assert server.asked(JOBS) == []


async def test_the_engines_refusals_have_openais_shape() -> None:
    """Its own error is a mere string. Its OpenAI page for edits has no WebP."""
    async with SdServer(native=False) as server, serving(server) as engine:
        answer = await edit(engine, Part("image", SQUARE, "a.png"), Part("output_format", b"webp"))

    assert (answer.status, answer.error["code"]) == (400, "invalid_request")
    assert answer.error["message"] == "invalid output_format, must be one of [png, jpeg]"
    assert server.drawn == []


async def test_an_edit_that_is_no_form_is_refused(engine: SdCppEngine) -> None:
    answer = await ask(engine, job("tiny", EDITS), {"prompt": "x", "image": "y"})

    assert answer.status == 400
    assert "multipart" in answer.error["message"]


async def test_other_endpoints_are_refused(engine: SdCppEngine) -> None:
    answer = await ask(engine, job("tiny"), {"messages": []})

    assert (answer.status, answer.error["code"]) == (400, "unsupported_endpoint")
