from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import multipart
from schemas.multipart import FormError, Part

BOUNDARY = "multipart/form-data; boundary=b"


def form(*parts: str) -> bytes:
    return "".join(f"--b\r\n{part}\r\n" for part in parts).encode() + b"--b--\r\n"


@given(st.lists(st.tuples(st.from_regex(r"[a-z_]{1,9}(\[\])?", fullmatch=True), st.binary())))
def test_what_is_encoded_parses_to_the_same(fields: list[tuple[str, bytes]]) -> None:
    parts = [Part(name, content) for name, content in fields[:20]]
    parts.append(Part("file", b"\r\n--b\r\n\r\n", "a.wav", "audio/wav"))
    assert multipart.parse(*multipart.encode(parts)) == parts


def test_a_browsers_form_is_read() -> None:
    body = form(
        'Content-Disposition: form-data; name="prompt"\r\n\r\nGrüße',
        'content-disposition: form-data; name="file"; filename="mü.wav"\r\n'
        "content-type: audio/wav\r\n\r\nRIFF",
        'Content-Disposition: form-data; name="empty"; filename=""\r\n\r\n',
    )
    assert multipart.parse(body, BOUNDARY) == [
        Part("prompt", "Grüße".encode()),
        Part("file", b"RIFF", "mü.wav", "audio/wav"),
        Part("empty", b"", ""),
    ]


def test_names_cannot_break_out_of_their_quotes() -> None:
    body, _ = multipart.encode([Part('a"\r\nX: y', b"", 'b"; c="d')])
    head = body.split(b"\r\n\r\n")[0]
    assert head.count(b"\r\n") == 1
    assert b'name="a%22%0D%0AX: y"; filename="b%22; c=%22d"' in head


NO_FORMS: list[tuple[bytes, str, str]] = [
    (b"{}", "application/json", "has to be multipart"),
    (b"", "", "has to be multipart"),
    (b"", "multipart/form-data", "no boundary"),
    (b"", "multipart/form-data; boundary=", "no boundary"),
    (b"", "multipart/form-data; boundary=" + "b" * 300, "not valid"),
    (b"", BOUNDARY, "ends before"),
    (b"hello", BOUNDARY, "not valid"),
    (b"--c\r\n\r\n--c--\r\n", BOUNDARY, "not valid"),
    (form("X: y\r\n\r\n1"), BOUNDARY, "no name"),
    (form("Content-Disposition: form-data\r\n\r\n1"), BOUNDARY, "no name"),
    (form('Content-Disposition: attachment; name="a"\r\n\r\n1'), BOUNDARY, "no name"),
    (form('Content-Disposition: form-data; name="a"\r\n\r\n1')[:-4], BOUNDARY, "ends before"),
    (form(*['Content-Disposition: form-data; name="a"\r\n\r\n1'] * 129), BOUNDARY, "128"),
    # Of each byte of a part's head, older parsers made a step in Python: seconds a megabyte.
    (form("X: y\r\n" * 100 + "\r\n1"), BOUNDARY, "not valid"),
    (form("X: " + "y" * 100_000 + "\r\n\r\n1"), BOUNDARY, "not valid"),
]


def test_what_is_no_form_is_refused(subtests: pytest.Subtests) -> None:
    for body, content_type, why in NO_FORMS:
        with subtests.test(f"{body!r:.60}"), pytest.raises(FormError, match=why):
            multipart.parse(body, content_type)


def test_a_text_field_has_a_limit_and_an_upload_has_none() -> None:
    long = b"x" * (multipart.MAX_TEXT + 1)
    body, content_type = multipart.encode([Part("file", long, "a")])
    assert multipart.parse(body, content_type)[0].content == long
    with pytest.raises(FormError) as caught:
        multipart.parse(*multipart.encode([Part("prompt", long)]))
    assert caught.value.param == "prompt"


@given(st.binary(max_size=400))
def test_any_bytes_are_a_form_or_refused(junk: bytes) -> None:
    body = form('Content-Disposition: form-data; name="a"\r\n\r\n1') + junk
    for data in (junk, b"--b" + junk, body):
        try:
            names = [part.name for part in multipart.parse(data, BOUNDARY)]
        except FormError:
            names = ["refused"]
        assert all(names)
