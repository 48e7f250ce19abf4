from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.requests import Request

from ingress.request.forms import LARGE, Form, read_form
from schemas import multipart
from schemas.api import media
from schemas.errors import BodyTooLarge, InvalidRequest
from schemas.multipart import Part

FILE = Part("file", b"content", "a.wav")
KNOWN = media.Form(
    {"n": media.number, "stream": media.flag, "kinds": media.one_or_more}, frozenset({"file"})
)


def form(*parts: Part) -> Form:
    return Form(list(parts), b"", "")


def text(name: str, value: str) -> Part:
    return Part(name, value.encode())


def fields(*parts: Part) -> dict[str, Any]:
    return form(*parts).fields(KNOWN, frozenset({"model"}))


def refused(*parts: Part) -> str | None:
    with pytest.raises(InvalidRequest) as fault:
        fields(*parts)
    assert fault.value.message
    return fault.value.param


def test_texts_mean_what_they_are_for() -> None:
    found = fields(text("n", "2"), text("stream", "TRUE"), text("model", "2"), FILE)
    assert found == {"n": 2, "stream": True, "model": "2"}


@pytest.mark.parametrize(
    ("said", "meant"),
    [("2", 2), ("-1", -1), ("0.5", 0.5), ("1e3", 1000.0), ("two", "two"), ("", ""), ("²", "²")],
)
def test_numbers(said: str, meant: object) -> None:
    found = media.number(said)
    assert (found, type(found)) == (meant, type(meant))
    assert media.number("1_0") == "1_0"


def test_flags() -> None:
    assert [media.flag(word) for word in ("true", "1", "False", "0", "yes")] == [
        *(True, True, False, False),
        "yes",
    ]


def test_lists_are_named_so_or_known_to_be() -> None:
    found = fields(text("kinds", "a"), text("kinds[]", "b"), text("x[]", "c"), text("x[]", "d"))
    assert found == {"kinds": ["a", "b"], "x": ["c", "d"]}


def test_members_of_objects_are_named_so() -> None:
    found = fields(text("a[type]", "x"), text("a[limit]", "0.5"), text("b[", "c"))
    assert found == {"a": {"type": "x", "limit": "0.5"}, "b[": "c"}
    assert refused(text("a[b]", "x"), text("a[b]", "y")) == "a"
    assert refused(text("a[b]", "x"), text("a[]", "y")) == "a"


def test_an_upload_of_another_name_is_left_to_the_engine() -> None:
    several = [Part("markup", b"\xff", "a.png"), Part("markup", b"b", "b.png")]
    assert fields(text("n", "1"), *several, Part("x[]", b"", "")) == {
        "n": 1,
        "markup": "a.png",
        "x[]": "",
    }


@pytest.mark.parametrize("names", [("model", "model"), ("model", "model[]"), ("model[]", "model")])
def test_what_is_given_twice_is_not_chosen_from(names: tuple[str, str]) -> None:
    assert refused(*(text(name, "a") for name in names)) == "model"


def test_uploads_and_texts_are_not_mixed_up() -> None:
    assert refused(Part("model", b"a", "name.txt")) == "model"
    assert refused(Part("model", b"\xff")) == "model"
    for part in (text("file", "a"), Part("file", b"", "a.wav")):
        with pytest.raises(InvalidRequest, match="file"):
            form(part).file("file")
    with pytest.raises(InvalidRequest, match="Missing"):
        form(text("model", "a")).file("file")
    with pytest.raises(InvalidRequest, match="twice"):
        form(FILE, FILE).file("file")
    assert form(text("model", "a"), FILE).file("file") is FILE
    assert form(FILE, FILE).files("file", "image") == [FILE, FILE]


def request(body: bytes, content_type: str) -> Request:
    pieces = [body[:10], body[10:]]

    async def receive() -> dict[str, Any]:
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    headers = [(b"content-type", content_type.encode("latin-1"))]
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


async def test_a_form_is_read() -> None:
    body, kind = multipart.encode([FILE, text("model", "a")])
    found = await read_form(request(body, kind), 10_000)
    assert (found.body, found.content_type) == (body, kind)
    assert [part.name for part in found.parts] == ["file", "model"]


async def test_what_cannot_be_one_is_not_read() -> None:
    async def never() -> dict[str, Any]:
        raise AssertionError("the body was read")

    for kind in (b"", b"application/json", b"multipart/form-data", b"multipart/form-data; a=b"):
        scope = {"type": "http", "method": "POST", "headers": [(b"content-type", kind)]}
        with pytest.raises(InvalidRequest, match=r"multipart/form-data"):
            await read_form(Request(scope, never), 100)


async def test_a_form_has_a_limit() -> None:
    body, kind = multipart.encode([Part("file", bytes(1000), "a")])
    with pytest.raises(BodyTooLarge):
        await read_form(request(body, kind), 1000)
    with pytest.raises(InvalidRequest, match="closing boundary"):
        await read_form(request(body[:-9], kind), 10_000)


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"n": 11}, "n"),
        ({"n": True}, "n"),
        ({"size": "64"}, "size"),
        ({"size": "64x064"}, "size"),
        ({"quality": 1}, "quality"),
        ({"output_format": 5}, "output_format"),
        ({"prompt": ""}, "prompt"),
        ({"stream": True, "response_format": "url"}, "response_format"),
    ],
)
def test_requests_for_pictures(asked: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as fault:
        media.IMAGE.check({"prompt": "a cat", **asked})
    assert fault.value.param == param
    good = {"prompt": "a", "n": 10, "size": "1024x512", "output_format": "PNG", "own": object()}
    assert not media.IMAGE.check(good)
    assert not media.IMAGE.check({"prompt": "a", "size": "auto", "n": None})


def test_requests_for_transcriptions() -> None:
    words = {"timestamp_granularities": ["word"]}
    assert not media.TRANSCRIPTION.check({**words, "response_format": "verbose_json"})
    for asked in (words, {**words, "response_format": "json"}, {"temperature": 1.01}):
        with pytest.raises(InvalidRequest):
            media.TRANSCRIPTION.check(asked)


@pytest.mark.parametrize("nothing", ["", "null"])
def test_an_empty_field_is_as_absent(nothing: str) -> None:
    names = ("language", "temperature", "response_format", "stream")
    given = form(FILE, *(text(name, nothing) for name in names), text("prompt", nothing))
    asked, plain = given.checked(media.SOUND, media.TRANSCRIPTION)
    assert asked == {"prompt": nothing}
    assert plain.parts == [FILE, text("prompt", nothing)]
    assert multipart.parse(plain.body, plain.content_type) == plain.parts


def test_an_unknown_field_may_be_empty_but_null_is_nothing() -> None:
    given = form(FILE, text("own", ""), text("keywords", "null"), text("mask", "null"))
    assert given.checked(media.SOUND, media.TRANSCRIPTION)[1].parts == [FILE, text("own", "")]


def test_an_empty_name_is_a_mistake() -> None:
    with pytest.raises(InvalidRequest) as fault:
        form(FILE, text("model", "")).checked(media.SOUND, media.TRANSCRIPTION)
    assert fault.value.param == "model"
    assert form(text("model", "null")).checked(media.SOUND, media.TRANSCRIPTION)[0] == {}


def test_a_whole_number_of_a_form_is_an_integer() -> None:
    given = form(text("prompt", "2.0"), text("n", "2.0"), text("seed", "1e2"), text("own", "3.0"))
    asked, plain = given.checked(media.PICTURES, media.IMAGE)
    assert asked == {"prompt": "2.0", "n": 2, "seed": 100, "own": "3.0"}
    said = [text("prompt", "2.0"), text("n", "2"), text("seed", "100"), text("own", "3.0")]
    assert multipart.parse(plain.body, plain.content_type) == said


def test_a_plain_form_keeps_its_bytes() -> None:
    given = form(text("prompt", "a cat"), text("n", "2"))
    assert given.checked(media.PICTURES, media.IMAGE)[1] is given


async def test_a_large_form_waits_for_its_time() -> None:
    taken = list[Form]()

    async def take(work: Callable[[], Form]) -> Form:
        taken.append(work())
        return taken[-1]

    for size, times in ((10, 0), (LARGE, 1)):
        body, kind = multipart.encode([Part("file", bytes(size), "a")])
        found = await read_form(request(body, kind), 2 * LARGE, take)
        assert found.body == body
        assert len(taken) == times
