"""What was typed as parameters, and pictures that come back."""

from __future__ import annotations

import base64

import orjson
import pytest

from deploy.console.pages.asked import Wrong
from deploy.console.pages.painting import drawn
from deploy.console.pages.parameters import fields, further
from tests.doubles.sdserver.pictures import png


def test_only_what_was_typed_is_sent() -> None:
    typed = {"temperature": " 0.5 ", "max_tokens": "20", "top_p": "", "seed": ""}
    sent = fields(typed, "low", '{"top_k": 20}')
    assert sent == {
        "temperature": 0.5,
        "max_tokens": 20,
        "reasoning_effort": "low",
        "top_k": 20,
    }
    assert fields({}, "", " ") == {}


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ({"temperature": "warm"}, "Temperature: 'warm' is not a number."),
        ({"max_tokens": "1.5"}, "Most tokens: '1.5' is not a whole number."),
    ],
)
def test_what_is_no_number_is_refused_by_name(typed: dict[str, str], why: str) -> None:
    with pytest.raises(Wrong) as refused:
        fields(typed, "", "")
    assert str(refused.value) == why


@pytest.mark.parametrize("text", ["{", "[1]", "3", '{"model": "other"}', '{"stream": false}'])
def test_further_fields_that_cannot_be_sent_are_refused(text: str) -> None:
    with pytest.raises(Wrong):
        further(text)


def test_pictures_are_shown_by_what_they_are() -> None:
    picture = png(8, 8, bytes(24))
    body = orjson.dumps({"data": [{"b64_json": base64.b64encode(picture).decode()}]})
    assert drawn(body) == [f"data:image/png;base64,{base64.b64encode(picture).decode()}"]


@pytest.mark.parametrize(
    "body",
    [b"{", b"{}", b'{"data":[{"b64_json":"!"}]}', b'{"data":[{"b64_json":"PHN2Zz4="}]}'],
)
def test_what_is_no_picture_is_not_shown(body: bytes) -> None:
    with pytest.raises(Wrong):
        drawn(body)
