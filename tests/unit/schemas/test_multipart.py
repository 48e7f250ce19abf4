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


@pytest.mark.parametrize(
    ("head", "name", "filename"),
    [
        ("name=file; filename*=UTF-8''na%C3%AFve%20x.png", "file", "naïve x.png"),
        ("name=file; filename*=utf-8'en'a.png; filename=b.png", "file", "b.png"),
        ("name=file; FileName*=iso-8859-1''na%EFve.png", "file", "naïve.png"),
        ("name=file; filename*0*=UTF-8''%C3%AF; filename*1=b.png", "file", "ïb.png"),
        ("name*=UTF-8''fi%6Ce; filename=a", "file", "a"),
        ("name=file; filename*=klingon''%FF%0D%0A", "file", "ÿ\r\n"),
        ("name=file; filename*=%", "file", "%"),
        ("name=file; filename*", "file", ""),
    ],
)
def test_extended_names_are_read_and_written_plainly(head: str, name: str, filename: str) -> None:
    body = form(f"Content-Disposition: form-data; {head}\r\n\r\nRIFF")
    (part,) = multipart.parse(body, BOUNDARY)
    assert (part.name, part.filename, part.content) == (name, filename, b"RIFF")
    plainly, kind = multipart.plainly(body, BOUNDARY, [part])
    assert b"name*" not in plainly.lower()
    (again,) = multipart.parse(plainly, kind)
    assert (again.name, again.content) == (name, b"RIFF")


def test_a_plain_form_stays_and_its_type_is_written_as_all_write_it() -> None:
    body = form('Content-Disposition: form-data; name="file"; filename="ü"\r\n\r\nRIFF')
    for kind in ("Multipart/Form-Data;\tBoundary=b", 'MULTIPART/FORM-DATA; a=c; boundary="b"'):
        assert multipart.plainly(body, kind, multipart.parse(body, kind)) == (body, BOUNDARY)
    spaced = 'multipart/form-data; boundary="a b"'
    assert multipart.plainly(b"", spaced, [])[1] == spaced


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
    (b"", "multipart/form-data; boundary=ä", "letters"),
    (b"", 'multipart/form-data; boundary="a\tb"', "letters"),
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
