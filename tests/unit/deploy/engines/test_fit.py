"""How much of a model fits where."""

from __future__ import annotations

import pytest

from deploy.engines import fit
from deploy.engines.fit import EVERY_LAYER, Fit
from deploy.engines.gguf import Head, Value
from deploy.engines.machine import Machine
from tests.unit.deploy.engines.files import LLAMA

GIB = 2**30
HEAD = Head(dict(LLAMA))
SIZE = 5 * GIB


def test_the_cache_of_a_token() -> None:
    assert fit.cache_of(HEAD) == 32 * 8 * (128 + 128) * 2


def test_the_cache_where_layers_differ() -> None:
    values: dict[str, Value] = {**LLAMA, "llama.attention.head_count_kv": [8, 0, 8]}
    assert fit.cache_of(Head(values)) == 16 * (128 + 128) * 2


def test_the_cache_where_keys_have_a_width_of_their_own() -> None:
    values = {**LLAMA, "llama.attention.key_length": 192, "llama.attention.value_length": 64}
    assert fit.cache_of(Head(values)) == 32 * 8 * (192 + 64) * 2


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        (64 * GIB, Fit(4, 4 * 16_384)),
        (13 * GIB, Fit(4, 4 * 8192)),
        (9 * GIB, Fit(4, 4 * 4096)),
        (7 * GIB, Fit(2, 2 * 4096)),
        (6 * GIB, Fit(1, 4096)),
        (4 * GIB, Fit(1, 512, tight=True)),
    ],
)
def test_on_a_cpu(memory: int, expected: Fit) -> None:
    assert fit.fit(HEAD, SIZE, Machine(memory)) == expected


@pytest.mark.parametrize(
    ("free", "expected"),
    [
        (24 * GIB, Fit(4, 4 * 16_384, EVERY_LAYER)),
        (8 * GIB, Fit(4, 4 * 4096, EVERY_LAYER)),
        (7 * GIB, Fit(2, 2 * 4096, EVERY_LAYER)),
        (4 * GIB, Fit(4, 4 * 16_384, 17)),
        (GIB, Fit(4, 4 * 16_384, 0)),
    ],
)
def test_on_a_gpu(free: int, expected: Fit) -> None:
    assert fit.fit(HEAD, SIZE, Machine(64 * GIB, "nvidia", free)) == expected


def test_on_a_gpu_of_unknown_memory_all_layers_go_there() -> None:
    assert fit.fit(HEAD, SIZE, Machine(64 * GIB, "rocm")).layers == EVERY_LAYER


def test_no_more_context_than_the_model_was_trained_with() -> None:
    head = Head({**LLAMA, "llama.context_length": 512})
    assert fit.fit(head, SIZE, Machine(64 * GIB)) == Fit(4, 4 * 512)


def test_what_the_user_says_holds() -> None:
    here = Machine(64 * GIB)
    assert fit.fit(HEAD, SIZE, here, slots=8) == Fit(8, 8 * 16_384)
    assert fit.fit(HEAD, SIZE, here, context=8192) == Fit(2, 8192)
    assert fit.fit(HEAD, SIZE, here, slots=1, context=100_000) == Fit(1, 100_000)
    assert fit.fit(HEAD, SIZE, Machine(6 * GIB), context=100_000).tight


def test_a_file_that_says_nothing() -> None:
    assert fit.fit(Head(), SIZE, Machine(64 * GIB)) == Fit(4, 4 * 8192)
