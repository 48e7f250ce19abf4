"""The length of recordings of every format, as encoders write them and as they can be damaged."""

from __future__ import annotations

import io
import time

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallback.cost import duration

LENGTH = 7.3
FRAME = b"\xff\xfb\x90\x00" + bytes(413)
"""MP3: 417 bytes, 1152 samples at 44.1 kHz."""


def coded(container: str, codec: str, rate: int, bits: int = 0) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format=container) as made:
        stream = made.add_stream(codec, rate=rate)
        assert isinstance(stream, av.AudioStream)
        stream.layout = "mono"
        if bits:
            stream.bit_rate = bits
        silence = av.AudioFrame("s16", "mono", int(rate * LENGTH))
        silence.rate = rate
        for plane in silence.planes:
            plane.update(bytes(plane.buffer_size))
        shape = av.AudioResampler(stream.format, "mono", rate)
        for frame in shape.resample(silence):
            made.mux(stream.encode(frame))
        made.mux(stream.encode(None))
    return out.getvalue()


ENCODED: list[tuple[str, str, int, int]] = [
    ("mp3", "libmp3lame", 16_000, 8000),
    ("mp3", "libmp3lame", 44_100, 320_000),
    ("mp2", "mp2", 16_000, 0),
    ("adts", "aac", 16_000, 0),
    ("ipod", "aac", 16_000, 0),
    ("mp4", "aac", 44_100, 0),
    ("flac", "flac", 16_000, 0),
    ("ogg", "libopus", 48_000, 6000),
    ("wav", "pcm_s16le", 16_000, 0),
    ("wav", "pcm_mulaw", 8000, 0),
    ("aiff", "pcm_s16be", 44_100, 0),
    ("amr", "libopencore_amrnb", 8000, 4750),
]


def test_what_encoders_write(subtests: pytest.Subtests) -> None:
    """Encoders add a little."""
    for container, codec, rate, bits in ENCODED:
        with subtests.test(f"{container!r:.60} {codec!r:.60}"):
            found = duration.seconds(coded(container, codec, rate, bits))
            assert found is not None
            assert LENGTH <= found < LENGTH + 0.2


def test_a_webm_tells_when_its_last_part_began() -> None:
    found = duration.seconds(coded("webm", "libopus", 48_000))
    assert found is not None
    assert LENGTH <= found < LENGTH + 33


def test_tags_and_damage_are_passed_over() -> None:
    tag = b"ID3\x04\x00\x00\x00\x00\x01\x00" + b"\xff" * 128
    found = duration.seconds(tag + FRAME * 100 + b"TAG\xff" * 30 + FRAME * 100 + b"\xff\xfb")
    assert found == pytest.approx(200 * 1152 / 44_100)


def test_streams_of_an_ogg_follow_each_other() -> None:
    one = coded("ogg", "libopus", 48_000)
    other = one.replace(one[14:18], b"next")
    found, both = duration.seconds(one), duration.seconds(one + other)
    assert found is not None
    assert both == pytest.approx(2 * found)


NOT_TOLD: list[bytes] = [
    b"",
    b"\xff\xfb\x90\x00",
    b"\xff\xfb" + b"\xff" * 10_000_000,
    FRAME + bytes(10_000),
    FRAME + b"\xff\xf1\x50\x40\x20\x1f\xfc".ljust(256) * 100,  # frames of AAC
    b"RIFF____WAVEfmt ",
    b"fLaC" + bytes(40),
    b"OggS" + bytes(40),
    b"____ftypM4A ____mvhd",
    b"\x1a\x45\xdf\xa3" + bytes(40),
    b"FORM____AIFFCOMM",
    b"GIF89a" + bytes(40),
]


def test_what_cannot_be_told_is_not(subtests: pytest.Subtests) -> None:
    for data in NOT_TOLD:
        with subtests.test(f"{data!r:.60}"):
            began = time.process_time()
            assert duration.seconds(data) is None
            assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    ("container", "codec"), [("flac", "flac"), ("mp4", "aac"), ("ogg", "opus")]
)
def test_a_head_that_claims_too_little_is_not_believed(container: str, codec: str) -> None:
    data = coded(container, "libopus" if codec == "opus" else codec, 48_000)
    assert duration.most(data) == duration.seconds(data)
    large = data + bytes(10_000_000)
    found = duration.most(large)
    assert found is not None
    assert found >= 10_000_000 / (48_000 * 2)


def test_plain_samples_are_as_long_as_they_are() -> None:
    for container, codec in (("wav", "pcm_s16le"), ("aiff", "pcm_s16be"), ("mp3", "libmp3lame")):
        data = coded(container, codec, 44_100)
        assert duration.most(data) == duration.seconds(data)


MAGICS = (
    b"RIFF____WAVE",
    b"fLaC",
    b"OggS\0",
    b"____ftyp",
    b"\x1a\x45\xdf\xa3",
    b"#!AMR\n",
    b"\xff",
)


@given(st.sampled_from([*MAGICS, b"FORM____AIFFCOMM", b"\xff\xf1", b"ID3"]), st.binary())
def test_nothing_is_too_odd(magic: bytes, rest: bytes) -> None:
    found, most = duration.seconds(magic + rest), duration.most(magic + rest)
    assert found is None or (most is not None and most >= found >= 0)
