from __future__ import annotations

import asyncio
import importlib.util
import io
import os
import struct
import sys
import wave
from pathlib import Path
from typing import Any

import pytest

from tests.doubles import recordings
from workers.engines.whisper import audio, transcode
from workers.engines.whisper.audio import AudioError, NoDecoder

PCM = struct.pack("<800h", *range(800)) * 20


def wav(**changes: int) -> bytes:
    """One second of 16 kHz mono in 16 bits, with parts of its head as told."""
    rate, channels, bits = (
        changes.get(name, usual)
        for name, usual in (("rate", 16_000), ("channels", 1), ("bits", 16))
    )
    head = struct.pack("<HHIIHH", changes.get("kind", 1), channels, rate, 0, 2, bits)
    size = changes.get("size", len(PCM))
    return (
        b"RIFF\0\0\0\0WAVEfmt "
        + struct.pack("<I", 16)
        + head
        + b"data"
        + size.to_bytes(4, "little")
        + PCM
    )


def flac(rate: int, samples: int) -> bytes:
    return b"fLaC\0\0\0\x22" + bytes(10) + (rate << 44 | samples).to_bytes(8, "big") + bytes(16)


def ogg(kind: bytes, samples: int = 0) -> bytes:
    first = b"OggS\0\x02" + bytes(22) + kind + b"\0\0\0\0\x01" + (8000).to_bytes(4, "little")
    return first + bytes(100) + b"OggS\0\x04" + samples.to_bytes(8, "little") + bytes(99)


def test_lengths_are_exact_for_what_the_engine_reads() -> None:
    assert (audio.sniff(wav()).native, audio.sniff(wav()).seconds) == (True, 1.0)
    assert audio.sniff(audio.wav(PCM)).seconds == 1.0
    assert audio.sniff(wav(size=0xFFFFFFFF)).seconds == 1.0
    assert audio.sniff(wav(kind=2)).seconds == 4.0
    assert audio.sniff(flac(8000, 20_000)).seconds == 2.5
    assert audio.sniff(ogg(b"\x01vorbis", 20_000)).seconds == 2.5
    assert audio.sniff(b"\xff\xfb" + bytes(3998)).seconds == 2.0


BEGINNINGS: list[tuple[bytes, str, bool]] = [
    (wav(), "wav", True),
    (wav(size=0), "wav", False),
    (b"RF64" + bytes(99), "wav", False),
    (flac(16_000, 1), "flac", True),
    (flac(16_000, 0), "flac", False),
    (ogg(b"\x01vorbis"), "ogg", True),
    (ogg(b"OpusHead"), "ogg", False),
    (ogg(b"\x7fFLAC"), "ogg", False),
    (b"\xff\xfb\x90\x64", "mp3", True),
    (b"ID3\x04\0\0\0\0\0\x05.....\xff\xfb\x90\x64", "mp3", True),
    (b"ID3\x04\0\0\0\0\x01\x00" + bytes(128) + flac(1, 1), "flac", True),
    (b"\xff\xf1\x60\x40", "aac", False),
    (b"\0\0\0\x1cftypM4A ", "mp4", False),
    (b"\x1a\x45\xdf\xa3", "webm", False),
    (b"FORM\0\0\0\0AIFF", "aiff", False),
    (b"#!AMR\n", "amr", False),
    (b"\0\0\x01\xba", "mpeg", False),
]


def test_the_kind_is_told_by_the_content(subtests: pytest.Subtests) -> None:
    for data, name, native in BEGINNINGS:
        with subtests.test(f"{data!r:.60} {name!r:.60}"):
            found = audio.sniff(data)
            assert (found.name, found.native) == (name, native)


NO_AUDIO: list[bytes] = [
    b"",
    b"x",
    b"\xff",
    b"hello, I am a sound",
    b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
    b"ffconcat version 1.0\nfile /etc/passwd\n",
    b"RIFF\0\0\0\0AVI LIST",
    b"RIFF\0\0\0\0WAVE",
    b"RIFF\0\0\0\0WAVEdata" + bytes(99),
    b"RIFF\0\0\0\0WAVE" + b"x" * 99,
    wav(rate=0),
    wav(channels=0),
    wav(bits=0),
    b"ID3\x04\0\0\x7f\x7f\x7f\x7f",
]


def test_what_is_no_audio_is_refused(subtests: pytest.Subtests) -> None:
    for data in NO_AUDIO:
        with subtests.test(f"{data!r:.60}"), pytest.raises(AudioError):
            audio.sniff(data)


@pytest.mark.parametrize(
    "data", [wav(rate=1), flac(1, 2**36 - 1), flac(0, 2**32), ogg(b"\x01vorbis", 2**62)]
)
def test_a_file_that_says_it_lasts_for_days_is_refused(data: bytes) -> None:
    with pytest.raises(AudioError, match="longer than 2 hours"):
        audio.sniff(data)


@pytest.mark.parametrize("kind", sorted(recordings.KINDS))
async def test_other_kinds_are_decoded(kind: str) -> None:
    data = recordings.encode(kind, recordings.tone(2.0))
    found = audio.sniff(data)
    assert not found.native
    pcm = await audio.decode(data, found)
    assert len(pcm) / 2 / audio.RATE == pytest.approx(2.0, abs=0.15)
    with wave.open(io.BytesIO(audio.wav(pcm))) as made:
        shape = made.getframerate(), made.getnchannels(), made.getsampwidth(), made.getnframes()
    assert shape == (16_000, 1, 2, len(pcm) // 2)
    assert max(memoryview(pcm).cast("h")) > 4000


async def test_a_damaged_file_is_refused_with_the_reason() -> None:
    data = recordings.encode("m4a", recordings.tone(1.0))
    for damaged in (data[:64], data[:8] + bytes(len(data))):
        with pytest.raises(AudioError, match="The mp4 cannot be decoded: "):
            await audio.decode(damaged, audio.sniff(damaged))


async def test_a_file_without_sound_is_refused() -> None:
    data = recordings.video()
    with pytest.raises(AudioError, match="no audio track"):
        await audio.decode(data, audio.sniff(data))


async def test_too_long_a_recording_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = tmp_path / "transcode.py"
    source = Path(transcode.__file__).read_text()
    short.write_text(source.replace("MAX_SECONDS = 2 * 3600", "MAX_SECONDS = 1"))
    monkeypatch.setattr(transcode, "__file__", str(short))
    data = recordings.encode("webm", recordings.tone(2.0))
    with pytest.raises(AudioError, match="longer than"):
        await audio.decode(data, audio.sniff(data))


def program(path: Path, text: str) -> Path:
    path.write_text(f"#!{sys.executable}\nimport os, sys, time\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def without_av(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    hidden: Any = lambda name, *rest: None if name == "av" else find(name, *rest)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", hidden)


MISSING = r"cannot decode webm, only wav, mp3.* lacks: ffmpeg in PATH, or the package av"


@pytest.mark.usefixtures("without_av")
async def test_without_a_decoder_the_fault_names_what_works_and_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert not audio.can_decode()
    with pytest.raises(NoDecoder, match=MISSING):
        await audio.decode(b"\x1a\x45\xdf\xa3", audio.sniff(b"\x1a\x45\xdf\xa3"))


async def test_a_decoder_that_cannot_be_imported_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "transcode.py"
    source = Path(transcode.__file__).read_text()
    broken.write_text(
        source.replace("        import av\n", "        import av_of_another_python\n")
    )
    monkeypatch.setattr(transcode, "__file__", str(broken))
    data = recordings.encode("webm", recordings.tone(0.5))
    with pytest.raises(NoDecoder, match=MISSING):
        await audio.decode(data, audio.sniff(data))


@pytest.mark.usefixtures("without_av")
async def test_an_ffmpeg_in_path_does_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    program(
        tmp_path / "ffmpeg",
        "assert sys.argv[sys.argv.index('-f') + 1] == 'matroska'\n"
        "sys.stdout.buffer.write(open('/dev/stdin', 'rb').read()[4:])",
    )
    data = b"\x1a\x45\xdf\xa3" + PCM
    assert await audio.decode(data, audio.sniff(data)) == PCM


@pytest.mark.usefixtures("without_av")
async def test_cancelling_ends_the_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fifo = tmp_path / "pid"
    os.mkfifo(fifo)
    monkeypatch.setenv("PATH", str(tmp_path))
    tell = f"open({str(fifo)!r}, 'w').write(str(os.getpid()))"
    program(tmp_path / "ffmpeg", f"{tell}\ntime.sleep(600)")
    data = b"\x1a\x45\xdf\xa3"
    task = asyncio.create_task(audio.decode(data, audio.sniff(data)))
    pid = int(await asyncio.to_thread(fifo.read_text))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_the_decoder_has_none_of_our_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_NATS__PASSWORD", "of-the-broker")
    shown = "import os; print(*os.environ, end='')"
    monkeypatch.setattr(audio, "_decoders", lambda _: [[sys.executable, "-c", shown]])
    told = await audio.decode(b"x", audio.Found("amr", "amr"))
    assert b"PATH" in told
    assert b"HEADRACE" not in told


def _says(code: str) -> list[str]:
    return [sys.executable, "-c", code]


LACKING = [
    "import sys; print('boom', file=sys.stderr); sys.exit(4)",
    "import sys; print(\"Unknown input format: 'mov'\", file=sys.stderr); sys.exit(1)",
    "import sys; print('Decoder (codec aac) not found for input', file=sys.stderr); sys.exit(1)",
    "import sys; print('x: error while loading shared libraries', file=sys.stderr); sys.exit(127)",
    "import os; os.kill(os.getpid(), 9)",
]


@pytest.mark.parametrize("code", LACKING)
async def test_what_only_this_machine_lacks_is_no_fault_of_the_file(
    monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    monkeypatch.setattr(audio, "_decoders", lambda _: [_says(code)])
    with pytest.raises(NoDecoder):
        await audio.decode(b"", audio.Found("m4a", "mov"))


async def test_a_decoder_that_cannot_start_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio, "_decoders", lambda _: [["/nowhere/decoder"]])
    with pytest.raises(NoDecoder, match="cannot start"):
        await audio.decode(b"", audio.Found("m4a", "mov"))


async def test_of_two_decoders_the_second_does_what_the_first_cannot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good = _says("import sys; sys.stdout.write('ab')")
    monkeypatch.setattr(audio, "_decoders", lambda _: [_says(LACKING[0]), good])
    assert await audio.decode(b"", audio.Found("m4a", "mov")) == b"ab"
