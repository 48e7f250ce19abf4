"""Pictures as bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.doubles.sdserver.pictures import jpeg, png, webp
from workers.engines.sdcpp.pictures import BadPicture, Picture, bare, inspect

ROW = b"\1\2\3" * 8
WHOLE = {
    "png": png(8, 5, ROW, "a secret"),
    "jpeg": jpeg(8, 5, words=b"a secret"),
    "webp": webp(8, 5, "a secret"),
}


@pytest.mark.parametrize("form", WHOLE)
def test_format_and_size_are_read(form: str) -> None:
    assert inspect(WHOLE[form]) == Picture(form, 8, 5, 3)


@pytest.mark.parametrize(("channels", "size"), [(1, 8), (2, 16), (4, 32)])
def test_channels_of_a_png(channels: int, size: int) -> None:
    assert inspect(png(8, 5, b"\1" * size, channels=channels)).channels == channels


@pytest.mark.parametrize("form", WHOLE)
def test_words_are_taken_out(form: str) -> None:
    clean = bare(WHOLE[form])

    assert b"secret" in WHOLE[form]
    assert b"secret" not in clean
    assert inspect(clean) == inspect(WHOLE[form])
    assert bare(clean) == clean


def test_a_clean_picture_is_left_as_it_is() -> None:
    for picture in (png(8, 5, ROW), jpeg(8, 5), webp(8, 5)):
        assert bare(picture) == picture


@pytest.mark.parametrize("form", WHOLE)
def test_one_that_was_cut_off_is_refused(form: str) -> None:
    whole = WHOLE[form]
    for size in range(len(whole)):
        with pytest.raises(BadPicture):
            inspect(whole[:size])


def test_a_png_with_a_wrong_byte_is_refused() -> None:
    whole = WHOLE["png"]
    for place in range(len(whole)):
        broken = bytearray(whole)
        broken[place] ^= 0xFF
        with pytest.raises(BadPicture):
            inspect(bytes(broken))


@given(data=st.binary(max_size=200), form=st.sampled_from(sorted(WHOLE)), place=st.integers(0, 60))
def test_nothing_else_is_raised(data: bytes, form: str, place: int) -> None:
    for rubbish in (data, WHOLE[form][:place] + data, WHOLE[form][:place] + data + WHOLE[form]):
        try:
            found = inspect(rubbish)
            clean = bare(rubbish)
        except BadPicture:
            continue
        assert found.width > 0
        assert inspect(clean).format == found.format


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP"])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(BadPicture):
        inspect(data)
