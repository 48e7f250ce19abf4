"""Uploaded audio: finds its kind and length, and decodes what the engine cannot read.

The content alone decides the kind, because names and types from clients are often wrong.
whisper-server (1.8.5) reads WAV, MP3, FLAC and Ogg Vorbis itself. PyAV decodes all else, or an
ffmpeg in PATH where PyAV is missing or broken. Both are C code that reads strangers' data, so they
run in a process of their own. The demuxer is always named, never guessed: a guess could find a
playlist, which makes ffmpeg open other files and addresses.
"""

from __future__ import annotations

import asyncio
import importlib.util
import io
import re
import shutil
import signal
import struct
import sys
import tempfile
import wave
from dataclasses import dataclass
from pathlib import Path

from schemas.settings import outside
from workers.engines.whisper import transcode

KNOWN = "flac, m4a, mp3, mp4, mpeg, mpga, oga, ogg, wav, webm, aac, aiff, amr, opus"
NATIVE = "wav, mp3, flac, ogg (Vorbis)"
INSTALL = "ffmpeg in PATH, or the package av in Headrace's environment"
RATE = transcode.RATE
MAX_SECONDS = transcode.MAX_SECONDS
_PATIENCE = 120.0
"""Seconds for a conversion; 25 MB of Opus take a few."""
_SLOWEST = 2000
"""Bytes per second at the lowest rate for speech in MP3, 16 kbit/s."""
_LACKING = re.compile(
    rb"Unknown input format|Decoder .*not found|[Cc]ould not find codec|error while loading shared"
)
"""What an ffmpeg says that was built without what a file needs, or does not start."""
TOO_LONG = f"The audio is longer than {MAX_SECONDS // 3600} hours."


class AudioError(ValueError):
    """The upload is not audio that can be read; the message is for the client."""


class NoDecoder(Exception):
    """This machine cannot decode the upload, though another might; the message says what to
    install."""


@dataclass(frozen=True, slots=True)
class Found:
    """The kind of an upload. `demuxer`: ffmpeg's name for it. `native`: whisper-server reads it
    itself; `seconds` is then its length, for MP3 an upper bound."""

    name: str
    demuxer: str
    native: bool = False
    seconds: float = 0.0


_MAGIC: tuple[tuple[int, bytes, Found], ...] = (
    (4, b"ftyp", Found("mp4", "mov")),
    (0, b"\x1a\x45\xdf\xa3", Found("webm", "matroska")),
    (0, b"\x00\x00\x01\xba", Found("mpeg", "mpeg")),
    (0, b"#!AMR", Found("amr", "amr")),
    (0, b"FORM", Found("aiff", "aiff")),
    (0, b"RF64", Found("wav", "wav")),
)
"""(offset, bytes, kind); `sniff` knows the kinds that need a closer look."""


def sniff(data: bytes) -> Found:
    """The kind of an upload. Raises AudioError if it is unknown, damaged or too long.

    whisper-server allocates memory for as many samples as a file *claims* to hold (measured: a FLAC
    of 200 kB took all memory), so lengths are checked here.
    """
    skip = _id3(data)
    head = data[skip : skip + 256]
    for offset, magic, found in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return found
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return _bounded(_wav(data))
    if head[:4] == b"fLaC":
        return _bounded(_flac(data[skip:]))
    if head[:4] == b"OggS":
        return _bounded(_ogg(data))
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0:
        # An MPEG frame; layer 0 is AAC in ADTS.
        mp3 = Found("mp3", "mp3", True, len(data) / _SLOWEST)
        return mp3 if head[1] & 0x06 else Found("aac", "aac")
    raise AudioError(f"The file is no audio that is known here. Known are: {KNOWN}.")


def _bounded(found: Found) -> Found:
    if found.seconds > MAX_SECONDS:
        raise AudioError(TOO_LONG)
    return found


def _id3(data: bytes) -> int:
    """Bytes of an ID3 tag before the audio; each byte of its size holds 7 bits."""
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    size = 0
    for byte in data[6:10]:
        size = size << 7 | byte & 0x7F
    return size + 10


def _wav(data: bytes) -> Found:
    """A WAV has chunks of name, u32 size and content; "fmt " tells how to read "data"."""
    at, per_second = 12, 0.0
    while at + 24 <= len(data):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if name == b"fmt ":
            kind, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", data, at + 8)
            # Compressed kinds put at most two samples into a byte.
            frame = channels * bits // 8 if kind in _PLAIN else 0.5
            per_second = rate * frame
        elif name == b"data":
            if not per_second:
                break
            # Size 0: the recorder could not go back to the head. Only a decoder reads on.
            whole = size > 0
            return Found("wav", "wav", whole, min(size, len(data) - at - 8) / per_second)
        at += 8 + size + size % 2  # each chunk begins at an even place
    raise AudioError("The WAV is damaged or has no sound in it.")


_PLAIN = frozenset({1, 3, 6, 7, 0xFFFE})
"""WAV kinds with whole bytes for each sample: PCM, float, A-law, µ-law, extensible."""


def _flac(data: bytes) -> Found:
    """STREAMINFO comes first: after 18 bytes, 20 bits rate, 8 bits shape, 36 bits samples."""
    packed = int.from_bytes(data[18:26], "big")
    rate, samples = packed >> 44, packed & (1 << 36) - 1
    return Found("flac", "flac", samples > 0, samples / max(1, rate))


def _ogg(data: bytes) -> Found:
    """Only Vorbis is native. Each page tells at byte 6 how many samples came up to its end."""
    # The first packet comes after a page's head of 28 bytes.
    if data[28:35] != b"\x01vorbis":
        return Found("ogg", "ogg")
    rate = int.from_bytes(data[40:44], "little")
    pages = re.finditer(b"OggS\\0", data)
    samples = (int.from_bytes(data[m.start() + 6 : m.start() + 14], "little") for m in pages)
    # A page on which no packet ends says -1.
    last = max((count for count in samples if count < 1 << 63), default=0)
    return Found("ogg", "ogg", True, last / max(1, rate))


def wav(pcm: bytes) -> bytes:
    """Mono 16-bit samples at `RATE` as a WAV file."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(pcm)
    return buffer.getvalue()


async def decode(data: bytes, found: Found) -> bytes:
    """Mono 16-bit samples at `RATE`. Cancelling ends the decoder. Raises AudioError, NoDecoder."""
    if not (decoders := _decoders(found)):
        raise NoDecoder(_missing(found))
    for command in decoders:
        code, pcm, said = await _run(command, data, found)
        if code != transcode.NO_DECODER and not _LACKING.search(said):
            break
    else:
        raise NoDecoder(_missing(found))
    if code == -signal.SIGKILL:
        raise NoDecoder(f"its decoder of {found.name} was killed")
    if code == transcode.TOO_LONG or len(pcm) > MAX_SECONDS * RATE * 2:
        raise AudioError(TOO_LONG)
    if code or not pcm:
        why = said.decode("utf-8", "replace").strip().splitlines()[-1:] or ["no audio in it"]
        raise AudioError(f"The {found.name} cannot be decoded: {why[0][:200]}.")
    return pcm


async def _run(command: list[str], data: bytes, found: Found) -> tuple[int, bytes, bytes]:
    """A decoder's exit code, its samples, and what it said. Raises AudioError, NoDecoder."""
    try:
        with tempfile.TemporaryFile() as file:
            file.write(data)
            file.seek(0)
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=file,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=outside(),
            )
    except OSError as fault:  # a full disk, or too many processes
        raise NoDecoder(f"it cannot start its decoder: {fault.strerror}") from None
    try:
        async with asyncio.timeout(_PATIENCE):
            pcm, said = await process.communicate()
    except TimeoutError:
        raise AudioError(f"The {found.name} could not be decoded in {_PATIENCE:.0f} s.") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, pcm, said


def can_decode() -> bool:
    """Whether this machine has a decoder (see `INSTALL`)."""
    return _has_av() or shutil.which("ffmpeg") is not None


def _has_av() -> bool:
    return importlib.util.find_spec("av") is not None


def _decoders(found: Found) -> list[list[str]]:
    """The commands that decode a file on stdin to raw samples on stdout, best first."""
    commands = []
    if _has_av():
        # By its path and isolated, so that modules beside it cannot hide the standard library's.
        commands.append([sys.executable, "-I", str(Path(transcode.__file__)), found.demuxer])
    if ffmpeg := shutil.which("ffmpeg"):
        quiet = [ffmpeg, "-nostdin", "-hide_banner", "-loglevel", "error"]
        source = ["-protocol_whitelist", "file,pipe", "-f", found.demuxer, "-i", "/dev/stdin"]
        # One second more than allowed, so that too much differs from just enough.
        limits = ["-map", "0:a:0", "-vn", "-t", str(MAX_SECONDS + 1)]
        out = ["-ac", "1", "-ar", str(RATE), "-f", "s16le", "pipe:1"]
        commands.append([*quiet, *source, *limits, *out])
    return commands


def _missing(found: Found) -> str:
    return f"it cannot decode {found.name}, only {NATIVE}; to install what it lacks: {INSTALL}"
