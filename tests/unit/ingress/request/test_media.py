from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from starlette.requests import Request

from ingress.http.protocol import CLIENT_GONE
from ingress.models.catalog import Catalog
from ingress.request.media import MAX_URLS
from schemas.api.endpoints import CHAT, COMPLETIONS, EMBEDDINGS, Endpoint
from schemas.errors import BodyTooLarge, ClientGone, InvalidRequest
from schemas.nodes import ServedModel
from tests.unit import fakes
from tests.unit.ingress.request.media_requests import (
    AT,
    DATA_URL,
    MP3,
    PICTURE,
    URL,
    WAV,
    FakeFetcher,
    catalog,
    chat,
    fault,
    image,
    media,
    request,
    resolve,
    sound,
)
from tests.unit.ingress.request.web_server import png

# What is left as it is.


@pytest.mark.parametrize(
    "content",
    ["text", None, [], [{"type": "text", "text": "a"}, {"type": "text", "text": "http://a/"}]],
)
async def test_text_is_passed_as_the_very_same_bytes(content: object) -> None:
    document = {"messages": [{"role": "user", "content": content}]}
    body = orjson.dumps(document)
    assert await media().resolve(request(), CHAT, document, body, "m") is body


async def test_data_urls_and_recordings_are_passed_as_they_are() -> None:
    document = chat(image(DATA_URL, detail="low"), sound(WAV), sound(MP3, "mp3"))
    body = orjson.dumps(document)
    assert await media().resolve(request(), CHAT, document, body, "m") is body


@pytest.mark.parametrize("kind", ["image/jpeg", "image/png;charset=x", "IMAGE/PNG"])
async def test_the_picture_counts_and_not_what_is_said_of_it(kind: str) -> None:
    assert await resolve(chat(image(f"data:{kind};base64,{PICTURE}")))


async def test_bare_base64_becomes_a_data_url() -> None:
    document = chat(image(PICTURE, detail="low"), image(DATA_URL))
    sent = orjson.loads(await resolve(document))
    assert sent == chat(image(f"data:image/png;base64,{PICTURE}", detail="low"), image(DATA_URL))


async def test_types_in_other_cases_are_written_as_engines_know_them() -> None:
    odd = chat(image(f"DATA:Image/PNG;Base64,{PICTURE}"), sound(WAV, "WAV"), sound(MP3, "Mp3"))
    plain = chat(image(DATA_URL), sound(WAV, "wav"), sound(MP3, "mp3"))
    assert orjson.loads(await resolve(odd)) == plain


# Prompts in forms of llama-server's own.

SEEN = {"prompt_string": "See <__media__>", "multimodal_data": [PICTURE, WAV, MP3]}


@pytest.mark.parametrize("endpoint", [COMPLETIONS, EMBEDDINGS])
@pytest.mark.parametrize(
    ("prompt", "place"),
    [
        ({"prompt_string": "a"}, ""),
        (SEEN, ""),
        ([1, "a"], ""),
        (["a", [1, 2], "b"], "[1]"),
        (["a", {"prompt_string": "b"}], "[1]"),
        ([[1], [1, "a"]], "[1]"),
    ],
)
async def test_an_engine_that_has_them_gets_them(
    endpoint: Endpoint, prompt: Any, place: str
) -> None:
    key = endpoint.api.prompt
    body = orjson.dumps(asked := {key: prompt})
    assert not endpoint.shape.is_text(asked)
    assert await media().resolve(request(), endpoint, asked, body, "m") is body
    for model, kind in (("m", "vllm"), ("", "provider")):
        with pytest.raises(InvalidRequest, match=rf"only llama-server .*: {kind}") as caught:
            await media(known=catalog(kind="vllm")).resolve(request(), endpoint, asked, body, model)
        assert caught.value.param == key + place


async def test_the_engines_own_name_for_the_input_of_embeddings() -> None:
    body = orjson.dumps(asked := {"content": "a"})
    assert await media().resolve(request(), EMBEDDINGS, asked, body, "m") is body
    assert (await fault(asked, endpoint=EMBEDDINGS, known=catalog(kind="vllm"))).param == "content"


@pytest.mark.parametrize("plain", ["a", ["a", "b"], [1, 2], [[1], [2]]])
def test_openais_forms_are_for_every_engine(plain: Any) -> None:
    assert COMPLETIONS.shape.is_text({"prompt": plain})
    assert EMBEDDINGS.shape.is_text({"input": plain})


@pytest.mark.parametrize("key", ["input", "content"])
async def test_what_they_show_is_looked_at(key: str) -> None:
    for data in ("http://127.0.0.1/a.png", base64.b64encode(b"#EXTM3U").decode(), "", "/w=="):
        asked = {key: ["a", {"prompt_string": "b", "multimodal_data": [PICTURE, data]}]}
        found = await fault(asked, endpoint=EMBEDDINGS)
        assert found.param == f"{key}[1].multimodal_data[1]"
    blind = await fault({"prompt": SEEN}, endpoint=COMPLETIONS, known=catalog("vision"))
    assert "cannot hear" in blind.message
    assert blind.param == "prompt.multimodal_data[1]"


# What is refused.


NO_PICTURES: list[tuple[str, str]] = [
    ("data:image/png;base64,AAAA", "no known format"),
    ("data:image/png;base64,", "no known format"),
    ("data:image/png;base64,A", "not valid base64"),
    ("data:image/png;base64,AA=A", "not valid base64"),
    ("data:image/png;base64,AA==AA==", "not valid base64"),
    ("data:image/png;base64,_-_-", "no known format"),
    ("data:image/png;base64,é", "not valid base64"),
    (f"data:image/png;base64,{PICTURE[:60]} {PICTURE[60:]}", "not valid base64"),
    (f"data:image/png;base64,{PICTURE[:60]}%20{PICTURE[60:]}", "not valid base64"),
    (f"data:image/png,{PICTURE}", "data URL"),
    ("data:image/svg+xml;utf8,<svg/>", "data URL"),
    (f"data:text/html;base64,{PICTURE}", "'text/html'"),
    (f"data:;base64,{PICTURE}", "not image/*"),
    ("data:", "data URL"),
    (base64.b64encode(b"no picture at all").decode(), "data URL"),
    (PICTURE[:20] + "!" + PICTURE[20:], "not valid base64"),
    (PICTURE[:12], "PNG without its head"),
    ("picture.png", "data URL"),
    ("/etc/passwd", "data URL"),
    ("about:blank", "data URL"),
]


async def test_pictures_that_are_none(subtests: pytest.Subtests) -> None:
    for url, why in NO_PICTURES:
        with subtests.test(f"{url!r:.60} {why!r:.60}"):
            found = await fault(chat(image(url)))
            assert isinstance(found, InvalidRequest)
            assert found.param == f"{AT}.image_url"
            assert why in found.message
            assert found.param in found.message


async def test_the_padding_counts_wherever_slices_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingress.request.base64.SLICE", 8)
    assert await resolve(chat(image(DATA_URL)))
    broken = PICTURE[:15] + "=" + PICTURE[16:]
    assert "base64" in (await fault(chat(image(f"data:image/png;base64,{broken}")))).message


async def test_a_picture_that_unfolds_to_too_many_pixels() -> None:
    bomb = base64.b64encode(png(60_000, 60_000)).decode()
    found = await fault(chat(image(f"data:image/png;base64,{bomb}")))
    assert "60000x60000" in found.message
    assert found.param == f"{AT}.image_url"
    assert await resolve(chat(image(DATA_URL)), max_pixels=4096)


async def test_a_picture_that_is_too_large() -> None:
    large = base64.b64encode(png() + bytes(3000)).decode()
    found = await fault(chat(image(f"data:image/png;base64,{large}")), fetch_size=2000)
    assert "2000 bytes" in found.message


@pytest.mark.parametrize(
    ("data", "kind", "why"),
    [
        (WAV, "mp3", "no mp3"),
        (MP3, "wav", "no wav"),
        (PICTURE, "wav", "no wav"),
        ("", "wav", "'data'"),
        ("AAAA", "wav", "no wav"),
        ("!", "wav", "base64"),
        (WAV, "flac", "wav, mp3"),
        (WAV, "", "wav, mp3"),
    ],
)
async def test_recordings_that_are_none(data: str, kind: str, why: str) -> None:
    found = await fault(chat(sound(data, kind)))
    assert (found.param or "").startswith(f"{AT}.input_audio")
    assert why in found.message


# Senses.


@pytest.mark.parametrize(
    ("part", "param", "word"),
    [
        (image(DATA_URL), "image_url", "see pictures"),
        (image(URL), "image_url", "see pictures"),
        (sound(WAV), "input_audio", "hear recordings"),
    ],
)
async def test_a_model_without_the_sense(part: dict[str, Any], param: str, word: str) -> None:
    web = FakeFetcher()
    found = await fault(chat(part), web, known=catalog())
    assert found.param == f"{AT}.{param}"
    assert word in found.message
    assert "'m'" in found.message
    told = "can: seer." if param == "image_url" else "No model here can."
    assert told in found.message
    assert web.asked == []


async def test_engines_that_do_not_tell_are_asked() -> None:
    assert await resolve(chat(image(DATA_URL)), known=catalog(kind="openai"))


async def test_a_model_that_is_away_may_have_it() -> None:
    known = Catalog(lambda: 0.0)
    known.know("m")
    assert await resolve(chat(image(DATA_URL)), known=known)


# What is fetched.


async def test_addresses_become_data_urls() -> None:
    web = FakeFetcher(**{"http://b.example/": png(3, 3)})
    document = chat(image(URL, detail="high"), image(DATA_URL), image("http://b.example/"))
    found = orjson.loads(await resolve(document, web))
    parts = found["messages"][0]["content"]
    assert parts[1]["image_url"] == {"url": DATA_URL, "detail": "high"}
    assert parts[2]["image_url"] == {"url": DATA_URL}
    assert base64.b64decode(parts[3]["image_url"]["url"].partition(",")[2]) == png(3, 3)
    assert {**found, "messages": 0} == {**document, "messages": 0}
    assert sorted(web.asked) == [("http://b.example/", "image/"), (URL, "image/")]


async def test_an_address_that_cannot_be_fetched() -> None:
    web = FakeFetcher(**{"http://b.example/": "answers with status 404."})
    found = await fault(chat(image(URL), image("http://b.example/")), web)
    where = "messages[0].content[2].image_url"
    assert isinstance(found, InvalidRequest)
    assert found.param == where
    assert found.message == f"The URL in '{where}' answers with status 404."


@pytest.mark.parametrize("page", [b"no picture", png(90_000, 90_000)])
async def test_what_was_fetched_is_looked_at_too(page: bytes) -> None:
    assert (await fault(chat(image(URL)), FakeFetcher(**{URL: page}))).param == f"{AT}.image_url"


async def test_all_pictures_together_have_a_limit() -> None:
    web = FakeFetcher(**{URL: png() + bytes(600_000)})
    found = await fault(chat(image(URL), image(URL)), web, max_body=1_000_000)
    assert isinstance(found, BodyTooLarge)
    assert "1000000 bytes" in found.message


async def test_so_do_addresses() -> None:
    web = FakeFetcher()
    assert await resolve(chat(*[image(URL)] * MAX_URLS), web)
    assert len(web.asked) == MAX_URLS
    found = await fault(chat(*[image(URL)] * (MAX_URLS + 1)), web)
    assert found.param == f"messages[0].content[{MAX_URLS + 1}].image_url"


async def test_one_fault_ends_the_other_fetches() -> None:
    web = FakeFetcher()
    web.held = asyncio.Event()
    body = orjson.dumps(chat(image(URL), image("http://gone.example/")))
    task = asyncio.create_task(media(web).resolve(request(), CHAT, orjson.loads(body), body, "m"))
    await web.begun.wait()
    web.pages["http://gone.example/"] = "is gone."
    web.held.set()
    with pytest.raises(InvalidRequest):
        await task


def gone_by_state(asked: Request, _: asyncio.Task[bytes]) -> None:
    asked.scope["state"][CLIENT_GONE]()


def gone_by_cancel(_: Request, task: asyncio.Task[bytes]) -> None:
    task.cancel()


@pytest.mark.parametrize(
    ("go", "raised"),
    [(gone_by_state, ClientGone), (gone_by_cancel, asyncio.CancelledError)],
)
async def test_a_client_that_leaves_ends_them(
    go: Callable[[Request, asyncio.Task[bytes]], None], raised: type[BaseException]
) -> None:
    web = FakeFetcher()
    web.held = asyncio.Event()
    asked, body = request(), orjson.dumps(chat(image(URL)))
    task = asyncio.create_task(media(web).resolve(asked, CHAT, orjson.loads(body), body, "m"))
    await web.begun.wait()
    go(asked, task)
    with pytest.raises(raised):
        await task
    assert web.cancelled == 1
    assert CLIENT_GONE not in asked.scope["state"]


async def test_who_else_can_is_said_of_models_with_that_endpoint_alone() -> None:
    known = catalog()
    features = {"ears": ("transcriptions",), "hearer": ("chat",), "old": ()}
    models = tuple(
        ServedModel(name, "e", "llamacpp", 1, 0, ("text", "audio"), has)
        for name, has in features.items()
    )
    known.hear(fakes.card("w-2", models=models))
    with pytest.raises(InvalidRequest, match=r"Models that can: hearer, old\."):
        await resolve(chat(sound(WAV)), known=known)
