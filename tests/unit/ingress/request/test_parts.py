"""Where parts lie in each API, and that none is passed over."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.api.endpoints import CHAT, COUNT_TOKENS, MESSAGES, MODERATIONS, RESPONSES, Endpoint
from schemas.errors import HeadraceError
from tests.unit.ingress.request.media_requests import (
    AT,
    DATA_URL,
    PICTURE,
    URL,
    WAV,
    FakeFetcher,
    chat,
    fault,
    image,
    media,
    request,
    resolve,
    sound,
)


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "image_url"}, "image_url"),
        ({"type": "image_url", "image_url": URL}, "image_url"),
        ({"type": "image_url", "image_url": {}}, "image_url"),
        ({"type": "image_url", "image_url": {"url": 5}}, "image_url"),
        ({"type": "image_url", "image_url": {"url": ""}}, "image_url"),
        ({"type": "input_audio", "input_audio": 5}, "input_audio"),
        ({"type": "input_audio", "input_audio": {"format": "wav"}}, "input_audio"),
        ({"type": "video_url", "video_url": {"url": URL}}, "type"),
        ({"type": "audio_url", "audio_url": {"url": URL}}, "type"),
        ({"type": "file", "file": {"file_id": "a"}}, "type"),
        ({"type": ["image_url"], "image_url": {"url": URL}}, "type"),
        ({"image_url": {"url": URL}}, "type"),
        ({"type": "Image_URL", "image_url": {"url": URL}}, "type"),
    ],
)
async def test_parts_that_an_engine_might_understand_otherwise(
    part: dict[str, Any], param: str
) -> None:
    web = FakeFetcher()
    found = await fault(chat(part), web)
    assert found.param == f"{AT}.{param}"
    assert web.asked == []


async def test_a_part_that_is_no_object() -> None:
    document = {"messages": [{"role": "user", "content": ["http://a/"]}]}
    assert (await fault(document)).param == "messages[0].content[0]"


async def test_responses() -> None:
    document = {
        "input": [
            {"type": "reasoning", "content": 5},
            {"type": "function_call", "name": "f"},
            {"role": "user", "content": [{"type": "input_image", "image_url": URL}]},
            {
                "type": "function_call_output",
                "output": [{"type": "input_image", "image_url": URL}],
            },
            {"role": "user", "content": [{"type": "input_text", "text": "?"}, sound(WAV)]},
        ]
    }
    found = orjson.loads(await resolve(document, endpoint=RESPONSES))["input"]
    assert found[2]["content"][0]["image_url"] == DATA_URL
    assert found[3]["output"][0]["image_url"] == DATA_URL
    assert found[4] == document["input"][4]


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"content": [{"type": "input_image", "image_url": "x"}]}, "content[0].image_url"),
        ({"content": [{"type": "input_image", "file_id": "x"}]}, "content[0].image_url"),
        ({"content": [{"type": "input_file", "file_url": URL}]}, "content[0].type"),
        ({"output": [{"type": "input_file", "file_url": URL}]}, "output[0].type"),
        ({"output": {"type": "computer_screenshot", "image_url": URL}}, "output"),
    ],
)
async def test_responses_that_are_refused(item: dict[str, Any], param: str) -> None:
    found = await fault({"input": [item]}, endpoint=RESPONSES)
    assert found.param == f"input[0].{param}"


async def test_moderations() -> None:
    asked = {"input": [{"type": "text", "text": "?"}, image(URL)]}
    found = orjson.loads(await resolve(asked, endpoint=MODERATIONS))
    assert found["input"] == [asked["input"][0], image(DATA_URL)]
    for part in ({"type": "video_url", "video_url": {"url": URL}}, {"type": "image", "url": URL}):
        refused = await fault({"input": [part]}, endpoint=MODERATIONS)
        assert refused.param == "input[0].type"
    body = b'{"input":["Hello",""]}'
    texts = orjson.loads(body)
    assert await media().resolve(request(), MODERATIONS, texts, body, "m") is body


async def test_a_text_is_no_list_of_parts() -> None:
    body = b'{"input":"Hello"}'
    asked = orjson.loads(body)
    assert await media().resolve(request(), RESPONSES, asked, body, "m") is body


@pytest.mark.parametrize("endpoint", [MESSAGES, COUNT_TOKENS])
async def test_pictures_in_documents_are_fetched(endpoint: Endpoint) -> None:
    by_url = {"type": "image", "source": {"type": "url", "url": URL}}
    inside = {"type": "content", "content": [{"type": "text", "text": "It shows:"}, by_url]}
    plain = {"type": "text", "media_type": "text/plain", "data": "The mill is old."}
    result = {"type": "search_result", "source": "s", "title": "t", "content": []}
    parts = [
        {"type": "document", "source": plain, "title": None},
        {"type": "tool_result", "content": [{"type": "document", "source": inside}, result]},
    ]
    document = {"messages": [{"role": "user", "content": parts}]}
    found = orjson.loads(await resolve(document, endpoint=endpoint))
    first, second = found["messages"][0]["content"]
    inline = {"type": "base64", "media_type": "image/png", "data": PICTURE}
    assert first == parts[0]
    assert second["content"][0]["source"]["content"][1]["source"] == inline
    assert second["content"][1] == result


@pytest.mark.parametrize("endpoint", [MESSAGES, COUNT_TOKENS])
async def test_messages(endpoint: Endpoint) -> None:
    by_url = {"type": "image", "source": {"type": "url", "url": URL}}
    inline = {"type": "base64", "media_type": "image/png", "data": PICTURE}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [by_url]}
    parts = [by_url, result, {"type": "image", "source": inline}, {"type": "text", "text": "?"}]
    system = [{"type": "text", "text": "Be kind.", "cache_control": {"type": "ephemeral"}}]
    document = {"messages": [{"role": "user", "content": parts}], "system": system}
    found = orjson.loads(await resolve(document, endpoint=endpoint))
    content = found["messages"][0]["content"]
    assert content[0]["source"] == inline
    assert content[1]["content"][0]["source"] == inline
    assert content[2:] == parts[2:]
    assert found["system"] == system


@pytest.mark.parametrize(
    ("part", "param"),
    [
        ({"type": "image"}, "source"),
        ({"type": "image", "source": {"type": "file", "file_id": "x"}}, "source.type"),
        ({"type": "image", "source": {"type": "base64", "data": "AAAA"}}, "source"),
        ({"type": "image", "source": {"type": "url", "url": "file:///etc"}}, "source"),
        ({"type": "document", "source": {"type": "url", "url": URL}}, "source.type"),
        ({"type": "document", "source": {"type": "base64", "data": "JVBERg=="}}, "source.type"),
        ({"type": "document", "source": {"type": "text", "data": 1}}, "source.data"),
        ({"type": "document", "source": {"type": "content"}}, "source.content"),
        ({"type": "document", "source": {"type": "text", "data": ""}, "title": 1}, "title"),
        ({"type": "document", "source": {"type": "text", "data": ""}, "citations": 1}, "citations"),
        (
            {"type": "document", "source": {"type": "content", "content": [{"type": "thinking"}]}},
            "source.content[0].type",
        ),
        ({"type": "search_result", "source": "s", "title": "t"}, "content"),
        ({"type": "search_result", "source": "s", "content": []}, "title"),
        (
            {"type": "search_result", "source": "s", "title": "t", "content": [{"type": "image"}]},
            "content[0].type",
        ),
        ({"type": "tool_result", "content": [{"type": "document"}]}, "content[0].source"),
        ({"type": "tool_result", "content": [{"type": "image"}]}, "content[0].source"),
    ],
)
async def test_messages_that_are_refused(part: dict[str, Any], param: str) -> None:
    document = {"messages": [{"role": "user", "content": [part]}]}
    web = FakeFetcher(**{"file:///etc": "is no http or https address."})
    found = await fault(document, web, endpoint=MESSAGES)
    assert found.param == f"messages[0].content[0].{param}"


async def test_a_system_prompt_is_text() -> None:
    part = {"type": "image", "source": {"type": "url", "url": URL}}
    document = {"messages": [{"role": "user", "content": "?"}], "system": [part]}
    assert (await fault(document, endpoint=MESSAGES)).param == "system[0].type"


# Whatever JSON comes: no fault of ours, and nothing that is fetched passes by.

WORDS = st.sampled_from(
    [
        *("type", "text", "content", "output", "source", "url", "data", "format", "image_url"),
        *("input_image", "input_audio", "image", "tool_result", "base64", "wav", URL, DATA_URL),
        *("document", "search_result", "title", "citations"),
        *("user", "role", "function_call_output", "http://a/", "data:,", ""),
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=20,
)


@given(
    endpoint=st.sampled_from([CHAT, RESPONSES, MESSAGES]),
    content=st.lists(st.dictionaries(WORDS, VALUES, max_size=4) | VALUES, max_size=3),
    system=VALUES,
)
async def test_any_json(endpoint: Endpoint, content: list[Any], system: Any) -> None:
    items = [{"role": "user", "content": content}]
    document = {endpoint.api.prompt: items, "system": system}
    web = FakeFetcher(**{"http://a/": "is gone."})
    body = orjson.dumps(document)
    try:
        found = await media(web).resolve(request(), endpoint, document, body, "m")
    except HeadraceError as refused:
        assert 400 <= refused.status < 500  # noqa: PT017
        assert refused.param  # noqa: PT017
    else:
        assert found is body or web.asked
