"""Base64 in every way in which clients write it, at every place where they send it: engines get it
as RFC 4648 has it, padded, as some stop at the first letter that they do not know."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import orjson
import pytest

from schemas.api import endpoints
from schemas.api.endpoints import CHAT, COMPLETIONS, Endpoint
from tests.unit.ingress.request.media_requests import PICTURE, chat, image, resolve, sound
from tests.unit.ingress.request.web_server import png


def odd(content: bytes) -> str:
    """The base64 of what begins so, with the letters in which alphabets differ, and padding."""
    return base64.b64encode(content + bytes(-len(content) % 3) + b"\xfb\xff\xfe\0").decode()


SHOWN = odd(png(3, 3))
HEARD = odd(b"RIFF\x24\0\0\0WAVEfmt ")
SPELLINGS: dict[str, Callable[[str], str]] = {
    "lines": lambda text: "\r\n".join(text[at : at + 20] for at in range(0, len(text), 20)),
    "a line's end": lambda text: text + "\n",
    "spaces around": lambda text: f" {text} ",
    "no padding": lambda text: text.rstrip("="),
    "too much padding": lambda text: text + "=",
    "for URLs": lambda text: text.replace("+", "-").replace("/", "_"),
    "for URLs, not padded": lambda text: text.translate(str.maketrans("+/", "-_", "=")),
    "in a URL": lambda text: quote(text, safe=""),
    "in a URL, lines": lambda text: quote(f"{text[:9]}\n{text[9:]}", safe="").replace("%2B", "%2b"),
}
PLACES: dict[str, tuple[Endpoint, Callable[[str, str], dict[str, Any]]]] = {
    "image_url": (CHAT, lambda url, _: chat(image(url))),
    "input_image": (
        endpoints.RESPONSES,
        lambda url, _: message("input", {"type": "input_image", "image_url": url}),
    ),
    "a tool's output": (
        endpoints.RESPONSES,
        lambda url, _: {
            "input": [
                {
                    "type": "function_call_output",
                    "output": [{"type": "input_image", "image_url": url}],
                }
            ]
        },
    ),
    "source": (
        endpoints.MESSAGES,
        lambda _, data: message(
            "messages",
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": data},
            },
        ),
    ),
    "input_audio": (CHAT, lambda _, data: chat(sound(data))),
    "multimodal_data": (
        COMPLETIONS,
        lambda _, data: {"prompt": {"prompt_string": "x", "multimodal_data": [PICTURE, data]}},
    ),
    "moderations": (endpoints.MODERATIONS, lambda url, _: {"input": [image(url)]}),
}


def message(key: str, part: dict[str, Any]) -> dict[str, Any]:
    return {key: [{"role": "user", "content": [part]}]}


@pytest.mark.parametrize("place", PLACES)
async def test_base64_is_written_as_engines_read_it(
    subtests: pytest.Subtests, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr("ingress.request.base64.SLICE", 8)
    assert SHOWN[-8:] == HEARD[-8:] == "+//+AA=="
    endpoint, made = PLACES[place]
    text = HEARD if place == "input_audio" else SHOWN
    plain = made(f"data:image/png;base64,{text}", text)
    for name, spell in SPELLINGS.items():
        with subtests.test(name):
            sent = made(f"data:image/png;base64,{spell(text)}", spell(text))
            assert sent != plain
            assert orjson.loads(await resolve(sent, endpoint=endpoint)) == plain


@pytest.mark.parametrize(
    "head",
    [
        "data:image/png;charset=utf-8;base64,",
        "data:image/png;name=a.png; base64,",
        "data:image/png;BASE64,",
        "DATA:IMAGE/PNG;base64,",
        "data:image/jpeg;charset=utf-8;Base64,",
    ],
)
async def test_data_urls_begin_as_engines_read_them(head: str) -> None:
    for place in ("image_url", "input_image", "source"):
        endpoint, made = PLACES[place]
        sent = made(head + SHOWN, head + SHOWN)
        plain = made(f"data:image/png;base64,{SHOWN}", SHOWN)
        assert orjson.loads(await resolve(sent, endpoint=endpoint)) == plain
    heard = f"data:audio/wav;base64,{HEARD}"
    assert orjson.loads(await resolve(chat(sound(heard)))) == chat(sound(HEARD))
