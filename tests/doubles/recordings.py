"""Small recordings in the kinds that whisper-server cannot read itself, made with PyAV."""

from __future__ import annotations

import io
from typing import Any

import av
import av.audio.stream

from workers.engines.whisper import engine

NATIVE: dict[str, tuple[str, str, int]] = {
    "flac": ("flac", "flac", 44_100),
    "ogg": ("ogg", "vorbis", 44_100),
}
KINDS: dict[str, tuple[str, str, int]] = {
    "m4a": ("ipod", "aac", 44_100),
    "mp4": ("mp4", "aac", 48_000),
    "webm": ("webm", "libopus", 48_000),
    "opus": ("ogg", "libopus", 48_000),
    "oga": ("ogg", "flac", 16_000),
    "aac": ("adts", "aac", 22_050),
    "aiff": ("aiff", "pcm_s16be", 8_000),
    "mka": ("matroska", "pcm_s16le", 44_100),
    "mpeg": ("mpeg", "mp2", 44_100),
}
"""Muxer, encoder and sample rate; those of `NATIVE` it reads itself."""


def tone(seconds: float) -> bytes:
    """A tone as WAV."""
    return engine.tone(seconds)


def encode(kind: str, source: bytes) -> bytes:
    """`source`, a file of any kind, as a stereo file of `kind`."""
    muxer, codec, rate = (NATIVE | KINDS)[kind]
    target = io.BytesIO()
    with av.open(target, "w", format=muxer) as written, av.open(io.BytesIO(source), "r") as read:
        stream: Any = written.add_stream(codec, rate=rate)
        assert isinstance(stream, av.audio.stream.AudioStream)
        stream.layout = "stereo"
        stream.codec_context.options = {"strict": "experimental"}  # FFmpeg's Vorbis
        context = stream.codec_context
        context.open()
        resampler = av.AudioResampler(context.format.name, "stereo", rate, context.frame_size or 0)
        for frame in (*read.decode(audio=0), None):
            for piece in resampler.resample(frame):
                written.mux(stream.encode(piece))
        written.mux(stream.encode(None))
    return target.getvalue()


def video() -> bytes:
    """A Matroska file with a picture and no sound."""
    target = io.BytesIO()
    with av.open(target, "w", format="matroska") as written:
        stream: Any = written.add_stream("mpeg4", rate=1)
        stream.width = stream.height = 16
        stream.pix_fmt = "yuv420p"
        written.mux(stream.encode(av.VideoFrame(16, 16, "yuv420p")))
        written.mux(stream.encode(None))
    return target.getvalue()
