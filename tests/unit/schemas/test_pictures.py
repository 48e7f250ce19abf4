from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.pictures import Head, NoPicture, Picture, bare, head, inspect
from tests.doubles.sdserver import pictures as drawn
from tests.unit.ingress.request.web_server import png

JPEG = (
    b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
    b"\xff\xe1\x00\x06Exif\xff\xff\xff\xdb\x00\x04\x00\x00"
    b"\xff\xc2\x00\x11\x08\x00\x20\x00\x30\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01"
    b"\xff\xda\x00\x0c"
)


def riff(kind: bytes, body: bytes) -> bytes:
    whole = b"WEBP" + kind + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(whole)) + whole


def bmp(width: int, height: int) -> bytes:
    return b"BM" + bytes(12) + struct.pack("<Iii", 40, width, height) + bytes(30)


PICTURES = {
    "png": png(48, 32),
    "jpeg": JPEG,
    "gif": b"GIF89a" + struct.pack("<HH", 48, 32) + b"\x00\x00\x00",
    "webp": riff(b"VP8X", b"\x10\x00\x00\x00" + bytes([47, 0, 0, 31, 0, 0])),
    "bmp": bmp(48, 32),
}


@pytest.mark.parametrize(("name", "data"), PICTURES.items())
def test_each_format_and_its_size(name: str, data: bytes) -> None:
    assert head(data) == Head(name, 48, 32)
    assert head(data).pixels == 48 * 32


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("webp", riff(b"VP8L", b"\x2f" + struct.pack("<I", 47 | 31 << 14) + bytes(5))),
        ("webp", riff(b"VP8 ", b"\x30\x01\x00\x9d\x01\x2a" + struct.pack("<HH", 48 | 1 << 14, 32))),
        ("gif", b"GIF87a" + struct.pack("<HH", 48, 32)),
        ("bmp", b"BM" + bytes(12) + struct.pack("<IHH", 12, 48, 32)),
        ("bmp", bmp(48, -32)),
    ],
)
def test_other_kinds_of_heads(name: str, data: bytes) -> None:
    assert head(data) == Head(name, 48, 32)


def test_a_bomb_shows_in_its_head() -> None:
    bomb = png(100_000, 100_000)
    assert len(bomb) < 1000
    assert head(bomb).pixels == 10**10


NONE: list[bytes] = [
    b"",
    b"no picture",
    b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    b"\x00\x00\x00\x1cftypavif",
    b"%PDF-1.7",
    b"RIFF\x24\x00\x00\x00WAVEfmt ",
    png()[:8],
    png()[:20],
    png(0, 5),
    b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIDAT" + bytes(30),
    JPEG[:3],
    JPEG[:25],
    JPEG[:20] + b"\x00" + JPEG[20:],
    JPEG[:20] + b"\xff\xda\x00\x0c" + bytes(20),
    JPEG[:20] + b"\xff\xd9",
    b"\xff\xd8\xff\xff\xff\xff",
    b"GIF89a\x01",
    b"GIF89a" + bytes(10),
    riff(b"VP8X", b"\x10"),
    riff(b"VP8L", b""),
    riff(b"ALPH", bytes(20)),
    bmp(-1, 1),
    bmp(0, 1),
    b"BM" + bytes(5),
]


def test_what_is_none(subtests: pytest.Subtests) -> None:
    for data in NONE:
        with subtests.test(f"{data!r:.60}"), pytest.raises(NoPicture):
            head(data)


@pytest.mark.parametrize("data", PICTURES.values())
@given(cut=st.integers(0, 60), noise=st.binary(max_size=40))
def test_no_bytes_do_any_harm(data: bytes, cut: int, noise: bytes) -> None:
    found = None
    with contextlib.suppress(NoPicture):
        found = head(data[:cut] + noise)
    assert found is None or min(found.width, found.height) > 0


def test_a_long_way_to_the_frame_is_walked_in_no_time() -> None:
    segment = b"\xff\xe2\xff\xff" + bytes(65_533)
    data = JPEG[:20] + segment * 200 + JPEG[20:]
    assert head(data) == Head("jpeg", 48, 32)
    with pytest.raises(NoPicture):
        head(b"\xff\xd8" + b"\xff" * 30_000_000)


ROW = b"\1\2\3" * 8
WHOLE = {
    "png": drawn.png(8, 5, ROW, "a secret"),
    "jpeg": drawn.jpeg(8, 5, words=b"a secret"),
    "webp": drawn.webp(8, 5, "a secret"),
}


@pytest.mark.parametrize("form", WHOLE)
def test_format_and_size_are_read(form: str) -> None:
    assert inspect(WHOLE[form]) == Picture(form, 8, 5, 3)


@pytest.mark.parametrize(("channels", "size"), [(1, 8), (2, 16), (4, 32)])
def test_channels_of_a_png(channels: int, size: int) -> None:
    assert inspect(drawn.png(8, 5, b"\1" * size, channels=channels)).channels == channels


@pytest.mark.parametrize("form", WHOLE)
def test_words_are_taken_out(form: str) -> None:
    clean = bare(WHOLE[form])

    assert b"secret" in WHOLE[form]
    assert b"secret" not in clean
    assert inspect(clean) == inspect(WHOLE[form])
    assert bare(clean) == clean


def test_a_clean_picture_is_left_as_it_is() -> None:
    for picture in (drawn.png(8, 5, ROW), drawn.jpeg(8, 5), drawn.webp(8, 5)):
        assert bare(picture) == picture


def test_a_webp_whose_features_are_cut_off_is_refused() -> None:
    """They say whether there is EXIF, which `bare` takes back."""
    features = b"VP8X" + struct.pack("<I", 0)
    whole = drawn.webp(8, 5)
    broken = b"WEBP" + features + whole[12:]
    with pytest.raises(NoPicture, match="broken part"):
        bare(b"RIFF" + struct.pack("<I", len(broken)) + broken)


@pytest.mark.parametrize("form", WHOLE)
def test_one_that_was_cut_off_is_refused(form: str) -> None:
    whole = WHOLE[form]
    for size in range(len(whole)):
        with pytest.raises(NoPicture):
            inspect(whole[:size])


def test_a_png_with_a_wrong_byte_is_refused() -> None:
    whole = WHOLE["png"]
    for place in range(len(whole)):
        broken = bytearray(whole)
        broken[place] ^= 0xFF
        with pytest.raises(NoPicture):
            inspect(bytes(broken))


@given(data=st.binary(max_size=200), form=st.sampled_from(sorted(WHOLE)), place=st.integers(0, 60))
def test_nothing_else_is_raised(data: bytes, form: str, place: int) -> None:
    for rubbish in (data, WHOLE[form][:place] + data, WHOLE[form][:place] + data + WHOLE[form]):
        try:
            found = inspect(rubbish)
            clean = bare(rubbish)
        except NoPicture:
            continue
        assert found.width > 0
        assert inspect(clean).format == found.format


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP"])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(NoPicture):
        inspect(data)
