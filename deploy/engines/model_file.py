"""Tells by its content which model a file holds, and which server serves it."""

from __future__ import annotations

import json
import re
import stat
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from deploy.engines import gguf
from deploy.engines.faults import BadInput
from deploy.engines.gguf import Head

Kind = Literal["llamacpp", "whisper", "sdcpp"]
Does = Literal["chat", "embeddings", "rerank", "transcriptions", "pictures"]

_GGML = struct.pack("<I", 0x67676D6C)
_OLD = (b"tjgg", b"fmgg", b"algg")
"""Formats of language models before GGUF: ggjt, ggmf, ggla."""
_PARTS = re.compile(r"-(\d{5})-of-(\d{5})$")
_BLOB = re.compile(r"sha256-[0-9a-f]{64}$")
"""How Ollama calls its files."""
_RANK = 4
"""`pooling_type` of models that rank (llama.h); 0 is none, all others make vectors."""
_VECTORS = ("bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "modern-bert", "neo-bert")
"""Architectures that write no text."""
_PAINTERS = {
    "sd1": "sd1",
    "sdxl": "sdxl",
    "sd3": "sd3",
    "flux": "flux",
    "flux2": "flux2",
    "chroma": "chroma",
    "qwen_image": "qwen_image",
    "lumina2": "z_image",
}
"""Families of image models, by `general.architecture` as converters write it."""
_FILMS = ("wan", "ltxv", "hyvid", "cosmos")
_HEADER_MOST = 2**24
"""Most bytes of a safetensors header that are read: real ones have some hundred kB, and each byte
may take twenty of memory."""
_MELS = (80, 128)
"""Bands of Whisper's spectrograms; a ggml file with other numbers there is no Whisper model."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """`size`: bytes of all its parts. `name`: what its model may be called. `family`: of an image
    model, "" if the file is whole and needs no encoders beside it."""

    path: Path
    size: int
    kind: Kind
    does: Does
    name: str
    head: Head = field(default_factory=Head)
    family: str = ""


def read(path: Path) -> ModelFile:
    """Raises BadInput for a file that no engine serves; the message says what it is."""
    if path.is_dir():
        raise BadInput(f"{path} is a folder: name the model's file in it{_models_in(path)}")
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would have us wait for its other end
            raise BadInput(f"{path} is no file, but a pipe or a device: name the model's file")
        with path.open("rb") as file:
            start = file.read(64)
        if start.startswith(gguf.MAGIC):
            return _gguf(path)
        if start.startswith(_GGML):
            return _ggml(path, start)
        return _other(path, start)
    except gguf.Unreadable as fault:
        raise BadInput(f"{path}: {fault}") from None
    except OSError as fault:
        raise BadInput(f"{path}: {fault.strerror}") from None


def _models_in(folder: Path) -> str:
    try:
        found = sorted(each.name for each in folder.iterdir() if each.suffix in _SUFFIXES)
    except OSError:
        return ""
    return f", as {', '.join(found[:3])}" if found else ""


_SUFFIXES = (".gguf", ".bin", ".safetensors")


def _gguf(path: Path) -> ModelFile:
    head = gguf.read(path)
    architecture, size = head.architecture, _size(path)
    _refuse_part(path, head)
    if architecture in _FILMS:
        raise BadInput(f"{path} makes films ({architecture}), which no endpoint here serves")
    if architecture in _PAINTERS:
        family = "" if _is_whole(head.tensors) else _PAINTERS[architecture]
        return ModelFile(path, size, "sdcpp", "pictures", _name(path, head), head, family)
    if not architecture:
        return _painter(path, head.tensors, head)
    return ModelFile(path, size, "llamacpp", _does(head), _name(path, head), head)


def _does(head: Head) -> Does:
    pooling = head.own("pooling_type")
    if pooling == _RANK:
        return "rerank"
    return "embeddings" if pooling or head.architecture in _VECTORS else "chat"


def _refuse_part(path: Path, head: Head) -> None:
    """Raises BadInput for a file that is only a part of a model."""
    if head.text("general.type") == "mmproj" or head.architecture == "clip":
        raise BadInput(
            f"{path} holds the eyes or ears of a model (mmproj): name the model's own file, and "
            "this one is found beside it, or with --mmproj"
        )
    if head.text("general.type") == "adapter":
        raise BadInput(
            f"{path} is a LoRA adapter: name its model, and the adapter behind two dashes, as in "
            f"'headrace engine add MODEL.gguf -- --lora {path}'"
        )
    split = _PARTS.search(path.stem)
    if split and int(split[1]) != 1:
        first = _PARTS.sub(f"-00001-of-{split[2]}", path.stem) + path.suffix
        raise BadInput(f"{path} is a part of a model: name the first one, {first}")


def _size(path: Path) -> int:
    """Of all its parts. Raises BadInput if one is missing."""
    split = _PARTS.search(path.stem)
    if not split:
        return path.stat().st_size
    stem, number = path.stem[: split.start()], split[2]
    parts = [
        path.with_name(f"{stem}-{each:05}-of-{number}{path.suffix}")
        for each in range(1, int(number) + 1)
    ]
    if missing := [part.name for part in parts if not part.is_file()]:
        raise BadInput(f"of this model {missing[0]} is missing beside {path.name}")
    return sum(part.stat().st_size for part in parts)


def _name(path: Path, head: Head) -> str:
    stem = _PARTS.sub("", path.stem)
    if _BLOB.match(path.name):
        stem = re.sub(r"[^\w.-]+", "-", head.text("general.name")).strip("-").lower() or stem[:19]
    return stem


def _ggml(path: Path, start: bytes) -> ModelFile:
    """Its numbers: vocabulary, four of the encoder, four of the decoder, bands, type
    (whisper.cpp's `whisper_model_load`)."""
    if len(start) < 48:
        raise BadInput(f"{path} ends in the middle of its head: was all of it copied?")
    vocabulary, *_, bands, _type = struct.unpack("<11i", start[4:48])
    if bands not in _MELS or vocabulary < 50_000:
        raise BadInput(f"{path} is a ggml file, but no Whisper model")
    name = path.stem.removeprefix("ggml-")
    name = name if name.startswith("whisper") else f"whisper-{name}"
    return ModelFile(path, path.stat().st_size, "whisper", "transcriptions", name)


def _other(path: Path, start: bytes) -> ModelFile:
    if start[:4] in _OLD:
        raise BadInput(f"{path} is of a format that llama.cpp has left: get the model as GGUF")
    if start.startswith(b"PK\x03\x04"):
        raise BadInput(
            f"{path} is a file of PyTorch's, which may run code when it is read: get the model as "
            "GGUF, or as safetensors for pictures, or as ggml for whisper.cpp"
        )
    names = _safetensors(path, start)
    if names is None:
        raise BadInput(
            f"{path} is no model that is known here: GGUF (text, pictures), ggml (whisper.cpp) and "
            "safetensors (pictures) are"
        )
    return _painter(path, names, Head())


def _safetensors(path: Path, start: bytes) -> tuple[str, ...] | None:
    """The names of its tensors; None if it is no such file. Its head: u64 length, then JSON."""
    size = int.from_bytes(start[:8], "little")
    if not 2 <= size <= min(_HEADER_MOST, path.stat().st_size) or start[8:9] != b"{":
        return None
    with path.open("rb") as file:
        file.seek(8)
        try:
            found = json.loads(file.read(size))
        except (ValueError, RecursionError):
            return None
    return tuple(found) if isinstance(found, dict) else None


def _painter(path: Path, tensors: tuple[str, ...], head: Head) -> ModelFile:
    """An image model, by the names of its tensors. Raises BadInput."""
    family = _family(tensors)
    if family is None:
        if any(".lora_" in name or "lora_up" in name for name in tensors):
            raise BadInput(f"{path} is a LoRA: name its model, and '-- --lora-model-dir FOLDER'")
        if any(name.startswith("model.layers.") for name in tensors):
            raise BadInput(
                f"{path} is a language model as transformers has it: get it as GGUF, or serve its "
                "folder with vLLM, and name that one's URL"
            )
        raise BadInput(f"{path} is no model of which it is known how to serve it")
    size = path.stat().st_size
    return ModelFile(path, size, "sdcpp", "pictures", _name(path, head), head, family)


def _family(tensors: tuple[str, ...]) -> str | None:
    """ "" for a checkpoint with all that it needs; None if it draws no pictures."""
    bare = [name.removeprefix("model.diffusion_model.") for name in tensors]
    if _is_whole(tensors):
        return ""
    for start, family in (("double_blocks.", "flux"), ("joint_blocks.", "sd3")):
        if any(name.startswith(start) for name in bare):
            return family
    if any(name.startswith(("input_blocks.", "down_blocks.")) for name in bare):
        return "sd1"
    return None


def _is_whole(tensors: tuple[str, ...]) -> bool:
    """Whether it has its encoders, too."""
    starts = ("cond_stage_model.", "conditioner.", "first_stage_model.", "text_encoders.")
    return any(name.startswith(starts) for name in tensors)
