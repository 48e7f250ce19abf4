"""How much of a language model a machine can hold: slots, context and layers on the GPU. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from deploy.engines.gguf import Head
from deploy.engines.machine import Machine

SLOTS = (4, 2, 1)
"""Tried in this order, until each slot has `_ENOUGH` tokens."""
_MOST, _ENOUGH, _LEAST = 16_384, 4096, 512
"""Tokens of one slot: at most, so that four may be had where memory allows it; enough for a
conversation; and the least with which a server is any good."""
_STEP = 256
_OVERHEAD = 2**30
"""Bytes on the GPU for what a server computes in between."""
_SHARE = 0.5
"""Of the memory that the weights leave, as much may be the cache's: others use the machine, too."""
_HALF = 2
"""Bytes of a number in the cache: f16."""
_TRAINED = 8192
"""Context of a model whose file does not tell."""
EVERY_LAYER = 999


@dataclass(frozen=True, slots=True)
class Fit:
    """`context`: tokens of all slots together. `layers`: on the GPU, `EVERY_LAYER` for all; None
    without a GPU. `tight`: it may not fit."""

    slots: int
    context: int
    layers: int | None = None
    tight: bool = False


def fit(head: Head, size: int, machine: Machine, slots: int = 0, context: int = 0) -> Fit:
    """For a file of `size` bytes. What the user has said (`slots`, `context`, else 0) holds."""
    each = cache_of(head)
    trained = head.own("context_length") or _TRAINED
    layers = _layers(head, size, each, machine)
    room = _room(size, head, layers, machine)
    if context:
        slots = slots or max(1, min(SLOTS[0], context // min(trained, _ENOUGH)))
        return Fit(slots, context, layers, context * each > room)
    for tried in (slots,) if slots else SLOTS:
        share = min(trained, _MOST, room // max(1, each) // tried) // _STEP * _STEP
        slots = tried
        if share >= min(trained, _ENOUGH) // _STEP * _STEP:
            break
    least = min(trained, _LEAST)
    return Fit(slots, slots * max(share, least), layers, share < least)


def cache_of(head: Head) -> int:
    """Bytes that the cache of one token takes at most: key and value of each layer."""
    layers, heads = head.own("block_count"), head.own("attention.head_count")
    shared = head.values.get(f"{head.architecture}.attention.head_count_kv")
    # Where layers differ there is a list; layers without attention have 0.
    every = int(sum(shared)) if isinstance(shared, list) else layers * int(shared or heads)
    width = head.own("embedding_length") // heads if heads else 0
    key, value = head.own("attention.key_length"), head.own("attention.value_length")
    return every * ((key or width) + (value or width)) * _HALF


def _layers(head: Head, size: int, each: int, machine: Machine) -> int | None:
    if not machine.has_gpu:
        return None
    needed = size + each * min(head.own("context_length") or _TRAINED, _ENOUGH)
    room = machine.gpu_memory - _OVERHEAD
    count = head.own("block_count")
    if not machine.gpu_memory or not count or needed <= room:
        return EVERY_LAYER
    return max(0, room * count // needed)


def _room(size: int, head: Head, layers: int | None, machine: Machine) -> int:
    """Bytes for the cache, where most of it will be."""
    if layers == EVERY_LAYER and machine.gpu_memory:
        return machine.gpu_memory - _OVERHEAD - size
    count = head.own("block_count")
    here = size * (count - layers) // count if layers and count > layers else size
    return max(0, int((machine.memory - here) * _SHARE))
