"""How long recordings are taken to be."""

from __future__ import annotations

import io
import wave

import pytest

from fallback.cost import media


def recording(seconds: float, rate: int = 16_000, width: int = 2, channels: int = 1) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(bytes(int(seconds * rate) * width * channels))
    return out.getvalue()


@pytest.mark.parametrize("form", [{}, {"rate": 44_100, "channels": 2}, {"width": 1, "rate": 8000}])
def test_a_wav_says_its_length(form: dict[str, int]) -> None:
    data = recording(3, **form)
    assert 3 <= media.seconds([data], 0) < 3.01


def test_a_wav_that_was_streamed_is_as_long_as_it_is() -> None:
    data = bytearray(recording(3))
    data[40:44] = b"\xff\xff\xff\xff"
    assert 3 <= media.seconds([bytes(data)], 0) < 3.01


@pytest.mark.parametrize("data", [b"RIFF", b"RIFF____WAVE", b"RIFF____WAVEfmt ", b"ID3" * 1000])
def test_other_recordings_are_judged_by_their_size(data: bytes) -> None:
    assert media.seconds([data], 0) == len(data) / media.BYTES_A_SECOND
    assert media.seconds(None, 4000) == 4.0


def test_a_header_that_claims_too_much_makes_no_recording_short() -> None:
    data = recording(3, rate=4_000_000)
    data = data[:24] + (2**31).to_bytes(4, "little") + data[28:]
    assert media.seconds([data], 0) == len(data) / media.BYTES_A_SECOND


def test_a_recording_is_no_shorter_for_being_small() -> None:
    """An hour of silence in FLAC, whose head says so."""
    packed = 16_000 << 44 | 15 << 36 | 16_000 * 3600
    data = b"fLaC\0\0\0\x22" + bytes(10) + packed.to_bytes(8) + bytes(60_000)
    assert media.seconds([data], 0) == 3600


def test_every_recording_of_a_form_counts() -> None:
    assert 5 <= media.seconds([recording(3), recording(2)], 0) < 5.02
