"""Pictures in chats with nothing simulated but the sight: a real llama.cpp with a projector.

The projector has random weights, so that no test says what the model sees. But each picture really
goes through it and becomes tokens, which are counted.
"""

from __future__ import annotations

import asyncio
import base64
import random
import struct
import sys
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
import pytest_asyncio

from deploy.nats import broker as brokers
from tests.acceptance.conftest import RealLlama, running_llama
from tests.builders import mmproj
from tests.fabric import KEY, PATIENCE, Fabric, fabric
from tests.unit.ingress.request.test_base64 import SPELLINGS
from tests.unit.ingress.request.web_server import INSIDE, WebServer, png, web_server

PICTURE = 16
"""Tokens of one picture."""
AT = "messages[0].content[1].image_url"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def seeing_llama() -> Iterator[RealLlama]:
    projector = mmproj.build(lambda line: print(line, file=sys.stderr))
    with running_llama("--mmproj", str(projector.file)) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[WebServer]:
    async with web_server() as opened:
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(
    seeing_llama: RealLlama, server: WebServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Fabric]:
    """The model that sees, one that does not, and an ingress that may fetch from this machine."""
    home = tmp_path_factory.mktemp("fabric")
    with brokers.start(home / "broker", 0, 0) as broker:
        async with fabric(broker, home) as made:
            allowed = {"ingress.fetch_private": True, "ingress.fetch_ports": [server.port]}
            await made.ingress({**allowed, "ingress.max_body": 4_000_000})
            await made.worker(seeing_llama.url)
            await made.worker()
            await made.served("echo", seeing_llama.model)
            yield made


@pytest_asyncio.fixture(loop_scope="module")
async def client(served: Fabric) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=served.url + "/v1", api_key=KEY, max_retries=0, timeout=PATIENCE
    ) as made:
        yield made


def data_url(picture: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(picture).decode()}"


def question(*urls: str) -> list[Any]:
    pictures = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    text = {"type": "text", "text": "What is in the pictures?"}
    return [{"role": "user", "content": [text, *pictures]}]


async def tokens(client: openai.AsyncOpenAI, *urls: str, model: str) -> int:
    """Of the prompt."""
    answer = await client.chat.completions.create(
        model=model, messages=question(*urls), max_tokens=3, temperature=0
    )
    assert answer.usage
    assert answer.usage.completion_tokens == 3
    assert answer.choices[0].message.content
    return answer.usage.prompt_tokens


def bmp(width: int, height: int) -> bytes:
    row = bytes((3 * width + 3) // 4 * 4)
    size = 54 + len(row) * height
    head = struct.pack("<2sIIIIiiHHIIiiII", b"BM", size, 0, 54, 40, width, height, 1, 24, *[0] * 6)
    return head + row * height


def noise(width: int, height: int) -> bytes:
    """A picture that does not shrink."""
    dice = random.Random(3)
    rows = b"".join(b"\0" + dice.randbytes(3 * width) for _ in range(height))
    chunk = b"IDAT" + zlib.compress(rows)
    blank = png(width, height)
    at = blank.index(b"IDAT") - 4
    head, tail = blank[:at], blank[blank.index(b"IEND") - 4 :]
    return (
        head
        + struct.pack(">I", len(chunk) - 4)
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + tail
    )


async def test_the_models_say_what_they_can(served: Fabric, seeing_llama: RealLlama) -> None:
    async with served.session.get(served.url + "/v1/models", headers=served.headers) as answer:
        found = {model["id"]: model["headrace"] for model in (await answer.json())["data"]}
    assert "vision" in found[seeing_llama.model]["modalities"]
    assert "vision" not in found["echo"]["modalities"]


async def test_each_picture_is_counted(client: openai.AsyncOpenAI, seeing_llama: RealLlama) -> None:
    url = data_url(png(64, 64))
    none, one, two = [
        await tokens(client, *[url] * count, model=seeing_llama.model) for count in range(3)
    ]
    assert (one - none, two - one) == (PICTURE, PICTURE)


async def test_streamed_too(client: openai.AsyncOpenAI, seeing_llama: RealLlama) -> None:
    stream = await client.chat.completions.create(
        model=seeing_llama.model,
        messages=question(data_url(png(64, 64))),
        max_tokens=3,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert chunks[-1].usage
    seen = await tokens(client, data_url(png(64, 64)), model=seeing_llama.model)
    assert chunks[-1].usage.prompt_tokens == seen


@pytest.mark.parametrize("stream", [False, True])
async def test_addresses_are_fetched_by_the_ingress(
    client: openai.AsyncOpenAI, seeing_llama: RealLlama, server: WebServer, stream: bool
) -> None:
    server.asked.clear()
    server.content = png(64, 64)
    answer: Any = await client.chat.completions.create(
        model=seeing_llama.model,
        messages=question(server.url(INSIDE), server.url(INSIDE)),
        max_tokens=3,
        stream=stream,
        extra_body={"stream_options": {"include_usage": True}} if stream else {},
    )
    if stream:
        *_, answer = [chunk async for chunk in answer]
    bare = await tokens(client, model=seeing_llama.model)
    assert answer.usage.prompt_tokens == bare + 2 * PICTURE
    assert server.asked == [(INSIDE, "/picture.png")] * 2
    assert {headers["User-Agent"] for headers in server.headers} == {"headrace"}


async def test_a_client_that_leaves_ends_the_fetch(
    served: Fabric, client: openai.AsyncOpenAI, seeing_llama: RealLlama, server: WebServer
) -> None:
    """And no job is made of it."""
    server.left.clear()
    before = [process.count("runner.began") for process in served.processes]
    asked = asyncio.create_task(
        tokens(client, server.url(INSIDE, "/silent"), model=seeing_llama.model)
    )
    await server.until("/silent")
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    async with asyncio.timeout(PATIENCE):
        await server.left.wait()
    await served.processes[0].logged("refused", code="client_gone")
    assert [process.count("runner.began") for process in served.processes] == before


async def test_addresses_in_the_other_apis(
    served: Fabric, seeing_llama: RealLlama, server: WebServer
) -> None:
    server.content = png(64, 64)

    async def ask(path: str, key: str, picture: Any) -> int:
        text = {"type": "input_text" if key == "input" else "text", "text": "What is this?"}
        parts = [text, *([picture] if picture else [])]
        message = {"role": "user", "content": parts}
        body: dict[str, Any] = {key: [message], "model": seeing_llama.model}
        body |= {"max_output_tokens": 3} if key == "input" else {"max_tokens": 3}
        async with served.session.post(
            served.url + path, json=body, headers=served.headers
        ) as answer:
            assert answer.status == 200, await answer.text()
            usage = (await answer.json())["usage"]
        return int(usage["input_tokens"]) + int(usage.get("cache_read_input_tokens") or 0)

    url = server.url(INSIDE)
    for path, key, picture in (
        ("/v1/responses", "input", {"type": "input_image", "image_url": url}),
        ("/v1/messages", "messages", {"type": "image", "source": {"type": "url", "url": url}}),
    ):
        server.asked.clear()
        blind, seen = await ask(path, key, None), await ask(path, key, picture)
        assert seen == blind + PICTURE, path
        assert server.asked == [(INSIDE, "/picture.png")]


async def test_pictures_of_other_kinds_and_sizes(
    client: openai.AsyncOpenAI, seeing_llama: RealLlama
) -> None:
    bare = await tokens(client, model=seeing_llama.model)
    large = noise(500, 400)
    assert len(large) > 500_000
    for url in (data_url(bmp(30, 20), "image/bmp"), data_url(large), data_url(bmp(3, 2))):
        assert await tokens(client, url, model=seeing_llama.model) == bare + PICTURE


async def test_a_picture_in_every_spelling_of_base64_is_seen(
    client: openai.AsyncOpenAI, seeing_llama: RealLlama
) -> None:
    """llama-server would read up to the first letter that it does not know."""
    bare = await tokens(client, model=seeing_llama.model)
    text = base64.b64encode(png(64, 64)).decode()
    heads = ["data:image/png;charset=utf-8;base64,", "data:image/png;BASE64,"]
    urls = [head + text for head in heads]
    urls += [f"data:image/png;base64,{spell(text)}" for spell in SPELLINGS.values()]
    for url in urls:
        assert await tokens(client, url, model=seeing_llama.model) == bare + PICTURE, url[-90:]


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("data:image/png;base64,AAAA=AAA", "base64"),
        (data_url(b"no picture at all"), "no known format"),
        (data_url(b"#EXTM3U\nhttp://127.0.0.1/"), "no known format"),
        (data_url(png(60_000, 60_000)), "60000x60000"),
        ("file:///etc/passwd", "http or https"),
        ("http://127.0.0.1:80/", "port"),
        ("http://127.0.0.1:{port}/missing", "404"),
        ("http://127.0.0.1:{port}/html", "text/html"),
        ("http://127.0.0.1:{port}/loop", "redirects"),
        ("http://127.0.0.1:{port}/endless", "bytes"),
    ],
)
async def test_bad_pictures_are_refused_by_name(
    client: openai.AsyncOpenAI, seeing_llama: RealLlama, server: WebServer, url: str, word: str
) -> None:
    with pytest.raises(openai.BadRequestError) as fault:
        await tokens(client, url.format(port=server.port), model=seeing_llama.model)
    assert (fault.value.param, fault.value.code) == (AT, "invalid_request")
    assert word in str(fault.value)


async def test_a_picture_that_only_begins_as_one(
    client: openai.AsyncOpenAI, seeing_llama: RealLlama
) -> None:
    with pytest.raises(openai.BadRequestError):
        await tokens(client, data_url(png(64, 64)[:60]), model=seeing_llama.model)


async def test_a_model_without_eyes(client: openai.AsyncOpenAI, server: WebServer) -> None:
    server.asked.clear()
    for url in (data_url(png()), server.url(INSIDE)):
        with pytest.raises(openai.BadRequestError) as fault:
            await tokens(client, url, model="echo")
        assert fault.value.param == AT
        assert "smollm2-135m" in str(fault.value)
    assert server.asked == []


async def test_a_recording_for_a_model_without_ears(
    client: openai.AsyncOpenAI, seeing_llama: RealLlama
) -> None:
    sound: Any = {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}}
    with pytest.raises(openai.BadRequestError) as fault:
        await client.chat.completions.create(
            model=seeing_llama.model, messages=[{"role": "user", "content": [sound]}]
        )
    assert fault.value.param == "messages[0].content[0].input_audio"


async def test_an_engine_never_fetches_by_itself(
    served: Fabric, client: openai.AsyncOpenAI, seeing_llama: RealLlama, server: WebServer
) -> None:
    """llama-server would, from this machine; and an ingress does not from private addresses."""
    server.asked.clear()
    part: Any = {"type": "video_url", "video_url": {"url": server.url(INSIDE)}}
    with pytest.raises(openai.BadRequestError) as fault:
        await client.chat.completions.create(
            model=seeing_llama.model, messages=[{"role": "user", "content": [part]}]
        )
    assert fault.value.param == "messages[0].content[0].type"
    other = await served.ingress({"ingress.fetch_ports": [server.port]})
    await served.served("echo", seeing_llama.model, url=other.url)
    async with openai.AsyncOpenAI(base_url=other.url + "/v1", api_key=KEY) as strict:
        for host in ("127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1"):
            with pytest.raises(openai.BadRequestError) as refused:
                await tokens(strict, server.url(host), model=seeing_llama.model)
            assert refused.value.param == AT
    assert server.asked == []


TEXTS: list[Any] = ["Once upon", [1, 2], [1, " sea", 2], {"prompt_string": "Once upon"}]


async def completed(
    client: openai.AsyncOpenAI, model: str, prompt: Any, stream: bool = False
) -> tuple[list[str], int]:
    """The texts, and the tokens of the prompts."""
    body: Any = {"model": model, "max_tokens": 3, "temperature": 0, "prompt": "", "stream": stream}
    more = {"prompt": prompt, **({"stream_options": {"include_usage": True}} if stream else {})}
    answer: Any = await client.completions.create(**body, extra_body=more)
    found = [chunk async for chunk in answer] if stream else [answer]
    texts: dict[int, str] = {}
    for choice in (choice for each in found for choice in each.choices):
        texts[choice.index] = texts.get(choice.index, "") + choice.text
    return [texts[index] for index in sorted(texts)], found[-1].usage.prompt_tokens


@pytest.mark.parametrize("stream", [False, True])
async def test_prompts_of_every_form_are_continued_by_a_model_that_sees(
    client: openai.AsyncOpenAI, seeing_llama: RealLlama, stream: bool
) -> None:
    """llama-server itself takes one text alone, once the model sees."""
    texts, tokens = await completed(client, seeing_llama.model, TEXTS, stream)
    alone = [(await completed(client, seeing_llama.model, each))[0][0] for each in TEXTS]
    assert texts == alone
    assert texts[0] == texts[3]
    assert tokens == 2 + 2 + 3 + 2


async def test_a_prompt_may_have_pictures(
    client: openai.AsyncOpenAI, seeing_llama: RealLlama
) -> None:
    picture = base64.b64encode(png()).decode()
    one = {"prompt_string": "See <__media__> here", "multimodal_data": [picture]}
    two = {"prompt_string": "See <__media__><__media__>", "multimodal_data": [picture] * 2}
    _, tokens = await completed(client, seeing_llama.model, one)
    texts, more = await completed(client, seeing_llama.model, [one, two])
    assert (len(texts), tokens > PICTURE, more > tokens + 2 * PICTURE) == (2, True, True)
    for wrong in ({**one, "prompt_string": "no marker"}, {**one, "multimodal_data": ["aGk="]}):
        with pytest.raises(openai.BadRequestError) as caught:
            await completed(client, seeing_llama.model, wrong)
        assert str(caught.value.param).startswith("prompt")
